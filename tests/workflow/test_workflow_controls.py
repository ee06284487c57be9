"""Controls planned and run by Snakemake: what they share with the study, and what a change of them runs."""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_workflow import REPOSITORY, Workflow, copy_workflow

from snapcoder.planning import planned_settings
from snapcoder.provenance.audit import audit_study
from snapcoder.study.load import read_study
from snapcoder.tables.catalogue import TABLES

CONTROLS = {"crosscoder_seeds": [1], "warmup_steps": [8], "untrained": 2, "token_centred": True, "sae_series": True}
MADE = (
    "seed_stability", "feature_stability", "control_statistics", "warmup_control", "sae_series_match",
    "sae_series_check",
)  # fmt: skip


def controlled(workflow, **changes):
    """Write the controls into the configuration, with changes."""
    file = workflow.folder / "config" / "config.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "controls": {**CONTROLS, **changes}}))


def planned(workflow):
    plan = workflow.plan("controls")
    plan.pop("controls", None)
    return plan


def test_a_study_without_controls_plans_none_and_says_how_to_get_some(workflow):
    assert not [rule for rule in workflow.plan() if rule.startswith("control") or rule in ("untrained", "sae_series")]
    done = workflow.snakemake("controls", "--dry-run", check=False)
    assert done.returncode != 0
    assert "controls: nothing is switched on; set some" in done.stdout + done.stderr


def test_controls_make_only_what_their_change_reaches(workflow):
    controlled(workflow)
    plan = planned(workflow)
    rules = set(plan)
    seed = {rule.removeprefix("control_seed1_") for rule in rules if rule.startswith("control_seed1_")}
    warmup = {rule.removeprefix("control_warmup8_") for rule in rules if rule.startswith("control_warmup8_")}
    assert {"crosscoder", "codes", "trajectories", "timing"} <= seed
    assert not seed & {"corpus", "pretrain", "cloze", "activations", "behaviour", "report", "attribution"}
    assert {"pretrain", "activations", "cloze", "behaviour", "crosscoder", "phase_segments"} <= warmup
    assert not warmup & {"corpus", "ngrams", "tasks", "report", "attribution"}
    assert len(plan["control_untrained_activations"]) == len(plan["untrained"]) == 2
    assert len(plan["token_centred"]) == len(plan["sae_series"]) == 4
    assert "control_token_centred_activations" not in rules
    assert plan["corpus"] == plan["pretrain"] == [""], "the study's own text and model serve all controls"
    whole = workflow.plan()
    assert {rule: whole[rule] for rule in rules} == plan
    assert whole["report"] == ["layer=0"]


def test_the_ready_controls_share_every_file_with_the_default_study():
    default, controls = (read_study(REPOSITORY / "config" / "config.yaml", REPOSITORY / "config" / name)
                         for name in ("config.yaml", "controls.yaml"))  # fmt: skip
    assert len(controls.controls.crosscoder_seeds) == 2
    assert controls.controls.model_seeds
    for part in ("study", "corpus", "snapshots", "pretrain", "activations", "crosscoder", "evolution", "phases"):
        assert getattr(controls, part) == getattr(default, part), part


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    """A tiny study's controls, complete."""
    workflow = copy_workflow(tmp_path_factory.mktemp("controls"))
    controlled(workflow)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(workflow.folder / "workflow"),
        "HOME": str(workflow.folder),
    }
    command = [sys.executable, "-m", "snapcoder.launch", "--cores", "2", "--", "--cores", "2", "controls"]
    done = subprocess.run(command, cwd=workflow.folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return workflow


@pytest.mark.study
def test_finished_controls_are_valid_tables_a_figure_and_clean_records(finished, monkeypatch):
    assert planned(finished) == {}
    for name in MADE:
        table = pq.read_table(finished.results / f"tables/block0/{name}.parquet")
        assert TABLES[name].problems(table) == [], name
        assert table.num_rows, name
    assert (finished.results / "figures/block0/controls.png").stat().st_size > 10_000
    monkeypatch.chdir(finished.folder)
    planned_by, _ = planned_settings(finished.results, None)
    audit = audit_study(finished.results, planned_settings=planned_by)
    assert audit.findings == ()
    assert any("controls/warmup8/" in str(path) for path in (finished.results / "provenance").rglob("pretrain.json"))


@pytest.mark.study
def test_a_change_of_the_controls_plans_its_own_jobs_and_the_summaries(finished):
    controlled(finished, crosscoder_seeds=[1, 2])
    plan = planned(finished)
    assert {rule for rule in plan if rule.startswith("control_seed")} == {
        f"control_seed2_{rule}"
        for rule in ("crosscoder", "codes", "snapshot_features", "trajectories", "rotation", "timing")
    }
    assert set(plan) - {rule for rule in plan if rule.startswith("control_seed2_")} == {
        "seed_stability", "phase_segments", "control_statistics", "controls_figure",
    }  # fmt: skip
    controlled(finished)
    assert planned(finished) == {}
    controlled(finished, warmup_steps=[])
    assert set(planned(finished)) == {"control_statistics", "controls_figure"}


@pytest.mark.study
def test_a_changed_byte_in_a_control_is_found(finished):
    cache = next((finished.results / "controls/token_centred/activations").rglob("*.h5"))
    original = cache.read_bytes()
    flipped = bytearray(original)
    flipped[len(flipped) // 2] ^= 1
    cache.write_bytes(bytes(flipped))
    try:
        found = audit_study(finished.results).findings
        assert [finding.path for finding in found if finding.kind == "altered"] == [
            cache.relative_to(finished.results).as_posix()
        ]
    finally:
        cache.write_bytes(original)
