"""The plan that Snakemake makes from nothing: lint, format, jobs, refusals, other ways in."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HELPERS = ("common.smk", "report_files.smk")  # functions that rules use, and no rule


def test_the_whole_study_is_planned_with_one_job_per_snapshot_and_layer(workflow):
    workflow.configure(activations={"layers": [0, 1]}, snapshots={"added": [8]})
    plan = workflow.plan()
    steps = (0, 4, 8, 16, 40)
    pairs = sorted(f"layer={layer}, step={step}" for layer in (0, 1) for step in steps)
    assert plan["activations"] == pairs
    assert plan["prompts"] == plan["attribution"] == plan["ablation"] == plan["reconstruction_loss"] == pairs
    assert plan["behaviour"] == sorted(f"step={step}" for step in steps)
    assert plan["extension"] == ["layer=0, step=8", "layer=1, step=8"]
    assert plan["crosscoder"] == plan["timing"] == plan["report"] == ["layer=0", "layer=1"]
    once = ("pretrain", "corpus", "ngram_text", "token_classes", "cloze", "landing")
    assert all(plan[rule] == [""] for rule in once)
    assert "harness" not in plan  # no task is named for it
    workflow.configure(evaluation={"harness": {"tasks": ["blimp"]}})
    assert workflow.plan()["harness"] == sorted(f"step={step}" for step in steps)


def test_features_are_explained_by_a_service_only_when_one_is_named(workflow):
    assert "explanations" not in workflow.plan()
    workflow.configure(explain={"endpoint": "http://localhost:1/v1", "model": "m"})
    plan = workflow.plan()
    assert plan["explanations"] == plan["order_tests"] == plan["context_length"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"crosscoder": {"n_feature": 3}}, "crosscoder.n_feature: unknown key; did you mean n_features?"),
        ({"activations": {"layers": [7]}}, "activations.layers: block 7 does not exist"),
        ({"corpus": {"files": ["nothing/*.txt"]}}, "nothing/*.txt: no such file"),
    ],
)
def test_a_bad_configuration_stops_before_anything_runs(workflow, changes, said):
    workflow.configure(**changes)
    done = workflow.snakemake(check=False)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not (workflow.folder / "results").exists()


def test_rules_are_declarations_and_call_the_step_of_their_name():
    for file in sorted((REPOSITORY / "rules").glob("*.smk")):
        text = file.read_text()
        if file.name in HELPERS:
            assert "rule " not in re.sub(r"#.*", "", text).replace("rules", "")
            continue
        assert "def " not in text
        assert not re.search(r"^\s+(run|script):", text, flags=re.MULTILINE)
        for name, body in re.findall(r"rule (\w+):(.*?)(?=\n\s*rule |\Z)", text, flags=re.DOTALL):
            assert re.search(rf"python -m snapcoder {name}\b", body)
            for directive in ("log:", "benchmark:", "conda:", "threads:", "resources:", "params:", "record="):
                assert directive in body, f"{file.name}: rule {name} has no {directive}"


def test_every_step_has_a_rule_and_every_rule_a_step():
    steps = {path.stem for path in (REPOSITORY / "workflow/snapcoder/steps").glob("*.py")} - {"__init__"}
    text = "".join(file.read_text() for file in (REPOSITORY / "rules").glob("*.smk"))
    assert set(re.findall(r"^\s*rule (\w+):", text, flags=re.MULTILINE)) == steps


def test_snakemake_finds_nothing_to_complain_of():
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_workflows_can_use_this_one_as_a_module(workflow):
    (workflow.folder / "outer").mkdir()
    (workflow.folder / "outer" / "Snakefile").write_text(
        'configfile: "config/config.yaml"\n\n\nmodule inner:\n    snakefile:\n        "../workflow/Snakefile"\n'
        "    config: config\n\n\nuse rule * from inner as inner_*\n"
    )
    done = workflow.snakemake("--snakefile", "outer/Snakefile", "--dry-run", "inner_all")
    assert "inner_crosscoder" in done.stdout + done.stderr


def test_a_gpu_is_asked_for_only_where_one_pays():
    text = "".join(file.read_text() for file in sorted((REPOSITORY / "rules").glob("*.smk")))
    rules = re.findall(r"rule (\w+):(.*?)(?=\n\s*rule |\Z)", text, flags=re.DOTALL)
    assert {name for name, body in rules if "gpu=" in body} == {
        "pretrain", "crosscoder", "sweep_point", "sweep_sae", "sae_series",
    }  # fmt: skip
