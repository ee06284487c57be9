from pathlib import Path

import jsonschema
import pytest

from snapcoder.study.generated import generated_files
from snapcoder.study.schema import config_schema
from snapcoder.study.settings import _SECTIONS, _UNUSED, step_settings
from snapcoder.study.snapshots import LocalSettings, SnapshotSettings
from snapcoder.study.study import Study

FILES = generated_files()


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_what_the_declarations_say(name):
    assert Path(name).read_text(encoding="utf-8") == FILES[name], "run: snapcoder schema --write"


def test_the_schema_is_a_valid_schema_and_describes_every_key():
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    stack = [schema]
    while stack:
        node = stack.pop()
        assert node.get("additionalProperties", False) is False
        for value in node.get("properties", {}).values():
            assert value["description"].endswith((".", ")")), value
            stack.append(value)


def test_settings_of_a_step_hold_only_its_sections():
    assert "crosscoder" not in step_settings(Study(), "corpus")
    assert '"layers"' not in step_settings(Study(), "activations", layer=2, snapshot=64)
    assert '"extension"' not in step_settings(Study(), "crosscoder", layer=2)
    assert '"extension"' in step_settings(Study(), "extension", layer=2, snapshot=5)


def test_the_warmup_of_local_checkpoints_reaches_the_phases_and_no_one_elses():
    local = Study(snapshots=SnapshotSettings(source="local", local=LocalSettings(warmup_steps=1430)))
    assert '"warmup_steps":1430' in step_settings(local, "phase_segments", layer=2)
    assert '"warmup_steps":null' in step_settings(Study(), "phase_segments", layer=2)
    assert "warmup_steps" not in step_settings(local, "phase_metrics", layer=2)
    assert "permutations" not in step_settings(local, "phase_metrics", layer=2)


def test_every_step_with_settings_exists():
    steps = {path.stem for path in Path("workflow/snapcoder/steps").glob("*.py")}
    assert set(_SECTIONS) | set(_UNUSED) <= steps
