"""A sweep planned by Snakemake: its points, what they share with the study, and what a change of it runs."""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_workflow import REPOSITORY, Workflow, copy_workflow

from snapcoder.provenance.audit import audit_study
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.study.load import read_study
from snapcoder.tables.sweep import SWEEP_METRICS

SWEEP = {"n_features": [16], "arms": {"batchtopk": [4, 8]}, "steps": 20, "n_baselines": 2}
AFTER = ("sweep_table", "sweep_figure")


def points(*values, size=16, steps=(0, 40)):
    """The wildcards of the jobs of some k: those of the crosscoders and those of their baselines."""
    named = [f"layer=0, arm=batchtopk, n_features={size}, sparsity={value}, seed=0" for value in values]
    return sorted(named), sorted(f"{name}, step={step}" for name in named for step in steps)


def swept(workflow, **changes):
    """Write the sweep into the configuration, with changes."""
    file = workflow.folder / "config" / "config.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "sweep": {**SWEEP, **changes}}))


def planned(workflow):
    plan = workflow.plan("sweep")
    plan.pop("sweep", None)
    return plan


def test_a_study_without_a_sweep_plans_none_and_says_how_to_get_one(workflow):
    assert not [rule for rule in workflow.plan() if rule.startswith("sweep")]
    done = workflow.snakemake("sweep", "--dry-run", check=False)
    assert done.returncode != 0
    assert "sweep.n_features: empty, so there is no sweep; set it" in done.stdout + done.stderr


def test_every_point_is_one_job_and_every_baseline_another(workflow):
    swept(workflow, arms={"batchtopk": [4], "jumprelu": [0.3, 0.00001]}, n_features=[16, 32], seeds=[0, 1])
    plan = planned(workflow)
    assert len(plan["sweep_point"]) == (1 + 2) * 2 * 2
    assert "layer=0, arm=jumprelu, n_features=32, sparsity=1e-05, seed=1" in plan["sweep_point"]
    assert plan["sweep_sae"] == sorted(f"{point}, step={step}" for point in plan["sweep_point"] for step in (0, 40))
    assert plan["sweep_table"] == plan["sweep_figure"] == ["layer=0"]
    assert not {"crosscoder", "codes", "figures", "report"} & set(plan), "the sweep alone needs no dictionary"
    whole = workflow.plan()
    assert {rule: whole[rule] for rule in ("sweep_point", "sweep_sae", *AFTER)} == {
        rule: plan[rule] for rule in ("sweep_point", "sweep_sae", *AFTER)
    }
    assert whole["figures"] == whole["report"] == ["layer=0"]


def test_the_ready_sweep_shares_every_file_with_the_default_study():
    default, sweep = (read_study(REPOSITORY / "config" / "config.yaml", REPOSITORY / "config" / name)
                      for name in ("config.yaml", "sweep.yaml"))  # fmt: skip
    assert sweep.sweep.n_features
    for part in ("study", "corpus", "snapshots", "pretrain", "activations", "crosscoder"):
        assert getattr(sweep, part) == getattr(default, part), part


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    """A tiny sweep, complete."""
    workflow = copy_workflow(tmp_path_factory.mktemp("sweep"))
    swept(workflow)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(workflow.folder / "workflow"),
        "HOME": str(workflow.folder),
    }
    command = [sys.executable, "-m", "snapcoder.launch", "--cores", "2", "--", "--cores", "2", "sweep"]
    done = subprocess.run(command, cwd=workflow.folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return workflow


@pytest.mark.study
def test_a_finished_sweep_is_a_table_a_figure_and_clean_records(finished):
    assert planned(finished) == {}
    table = pq.read_table(finished.results / "tables/block0/sweep_metrics.parquet")
    assert SWEEP_METRICS.problems(table) == []
    assert table.num_rows == 2 * (4 + 1 + 2)  # per point: snapshots, pooled, autoencoders
    assert embedded_provenance(finished.results / "figures/block0/pareto.png")["step"] == "sweep_figure"
    assert audit_study(finished.results).findings == ()
    assert not list((finished.results / "sweep").rglob("*.safetensors"))


@pytest.mark.study
@pytest.mark.parametrize(
    "changes, new_points, new_baselines",
    [
        ({"arms": {"batchtopk": [4, 6, 8]}}, *points(6)),
        ({"n_features": [16, 32]}, *points(4, 8, size=32)),
        ({"baselines": [0, 16, 40]}, [], points(4, 8, steps=(16,))[1]),
        ({"arms": {"batchtopk": [8]}}, [], []),
    ],
)
def test_a_change_of_the_sweep_plans_only_its_new_points_table_and_figure(finished, changes, new_points, new_baselines):
    swept(finished, **changes)
    plan = planned(finished)
    assert plan.pop("sweep_point", []) == new_points
    assert plan.pop("sweep_sae", []) == new_baselines
    assert plan == {rule: ["layer=0"] for rule in AFTER}


@pytest.mark.study
def test_keeping_dictionaries_trains_again_and_the_study_s_own_dictionary_is_another_matter(finished):
    swept(finished, keep_dictionaries=True)
    assert (planned(finished)["sweep_point"], planned(finished)["sweep_sae"]) == points(4, 8)
    swept(finished)
    finished.configure(crosscoder={"n_features": 32, "k": 5, "sparsity_weight": 0.9})  # a point has its own
    assert planned(finished) == {}
    finished.configure(crosscoder={"lr": 0.001})
    assert (planned(finished)["sweep_point"], planned(finished)["sweep_sae"]) == points(4, 8)
