"""One tiny study, run for real once; then what changes rerun, what breaks, and what the audit sees."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_workflow import copy_workflow

from snapcoder.provenance.audit import audit_study
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.storage.hashing import file_sha256
from snapcoder.tables import controls
from snapcoder.tables.catalogue import TABLES

pytestmark = pytest.mark.study

AFTER_CROSSCODER = {
    "codes", "snapshot_features", "trajectories", "rotation", "dimensionality", "timing", "presence", "feature_onsets", "attribution",
    "ablation", "ablation_tables",
    "attribution_tables", "attribution_report", "phase_metrics", "phase_segments", "formation_rows", "formation", "formation_table",
    "order_tests", "examples", "context_length", "complexity", "logits", "figures", "report", "landing", "onset_distribution",
    "onset_sensitivity", "heldout_snapshots", "reconstruction_loss", "downstream_tables",
    "task_figures",
}  # fmt: skip
OF_ACQUIRED_TASKS = {
    "attribution", "attribution_positions", "ablation_curves", "ablation_summary", "relie", "relie_check",
    "attribution_report", "task_feature_timing", "handover",
}  # fmt: skip
BATCH = "python -m snapcoder.launch --configfile config/config.yaml --cores 2"


def launch(workflow, **options):
    """Run the study as `make` does."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(workflow.folder / "workflow"),
        "HOME": str(workflow.folder),
    }
    command = [sys.executable, "-m", "snapcoder.launch", "--cores", "2"]
    return subprocess.Popen(command, cwd=workflow.folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)  # fmt: skip


def run(workflow):
    process = launch(workflow)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-6000:]
    return output


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study, complete."""
    workflow = copy_workflow(tmp_path_factory.mktemp("finished"))
    output = run(workflow)
    assert "report is at results/tiny/report/index.html" in output
    return workflow


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the complete study that a test may change; Snakemake's records and file times come along."""
    shutil.copytree(finished.folder, tmp_path / "copy", copy_function=shutil.copy2)
    return type(finished)(tmp_path / "copy")


def content(workflow):
    """Hashes of everything that must not depend on when or where it was made."""
    skip = ("logs", "benchmarks", "provenance")
    return {
        path.relative_to(workflow.results).as_posix(): file_sha256(path)
        for path in sorted(workflow.results.rglob("*"))
        if path.is_file() and path.relative_to(workflow.results).parts[0] not in skip and not path.name.startswith(".")
    }


def test_nothing_reruns(finished):
    assert finished.plan() == {}


def test_every_table_is_declared_filled_and_valid(finished):
    found = sorted((finished.results / "tables").rglob("*.parquet"))
    names = {path.stem for path in found}
    parts = {
        "behaviour", "behaviour_draws", "presence", "formation", "formation_rows", "token_class_sums", "task_examples",
        "extension_metrics", "sweep_metrics", "snapshot_features", "harness_performance",
        "feature_explanations",
    }  # fmt: skip
    of_controls = {schema.name for schema in controls.ALL}
    assert names == set(TABLES) - parts - of_controls
    for path in found:
        table = pq.read_table(path)
        schema = TABLES[path.stem]
        assert schema.problems(table) == [], path.stem
        # a model of 40 steps may have acquired no task: then these are empty, and the quality table says why
        if path.stem not in OF_ACQUIRED_TASKS:
            assert table.num_rows > 0, path.stem


def test_every_file_says_where_it_comes_from(finished):
    result = audit_study(finished.results)
    assert result.findings == ()
    kinds = (".parquet", ".h5", ".png", ".svg", ".html")
    carriers = [path for path in finished.results.rglob("*") if path.suffix in kinds and path.is_file()]
    assert {path.suffix for path in carriers} == set(kinds)
    for path in carriers:
        assert embedded_provenance(path)["step"], path


def test_plain_snakemake_cold_and_without_activation_makes_the_very_same_bytes(finished, tmp_path):
    again = copy_workflow(tmp_path)
    again.snakemake()
    records = list((again.results / "provenance").glob("*.json"))
    pythons = {json.loads(record.read_text())["run"]["python"] for record in records}
    assert pythons == {str(Path(sys.executable))}
    assert content(again) == content(finished)


def test_adding_a_snapshot_runs_its_own_jobs_and_the_aggregates_only(study):
    before = content(study)
    study.configure(snapshots={"added": [8, 24]})
    plan = study.plan()
    for rule in (
        "activations",
        "prompts",
        "attribution",
        "ablation",
        "reconstruction_loss",
        "extension",
        "snapshot_features",
        "presence",
        "formation",
    ):
        assert plan[rule] == ["layer=0, step=24", "layer=0, step=8"]
    assert plan["behaviour"] == ["step=24", "step=8"]
    untouched = {
        "corpus", "ngrams", "ngram_text", "pretrain", "crosscoder", "codes", "tasks", "cloze", "context_length", "complexity",
    }  # fmt: skip
    assert not (untouched | {"heldout_snapshots", "formation_rows"}) & set(plan)
    run(study)
    after = content(study)
    untouched = (
        "corpus/", "snapshots/", "activations/", "crosscoder/", "codes/", "trajectories/", "prompts/", "presence/",
        "tasks/", "formation/", "reconstruction/",
    )  # fmt: skip
    assert all(after[name] == before[name] for name in before if name.startswith(untouched))
    table = pq.read_table(study.results / "tables/block0/feature_trajectory.parquet").to_pandas()
    assert sorted(table["step"].unique()) == [0, 4, 8, 16, 24, 40]
    assert set(table.loc[table["added"], "step"]) == {8, 24}
    assert audit_study(study.results).findings == ()


def test_adding_a_layer_reruns_nothing_that_exists(study):
    study.configure(activations={"layers": [0, 1]})
    plan = study.plan()
    assert plan.pop("landing") == [""]
    assert all("layer=1" in wildcards for jobs in plan.values() for wildcards in jobs), plan


def test_reordering_the_snapshots_changes_nothing(study):
    study.configure(snapshots={"steps": [40, 0, 16, 4]})
    assert study.plan() == {}


def test_replacing_a_snapshot_runs_the_new_one_and_what_depends_on_the_set(study):
    study.configure(snapshots={"steps": [0, 4, 12, 40]})
    plan = study.plan()
    assert plan["activations"] == plan["prompts"] == ["layer=0, step=12"]
    assert plan["crosscoder"] == ["layer=0"]
    assert "pretrain" not in plan


def test_swapping_two_settings_is_noticed(study):
    study.configure(crosscoder={"eval_every": 10, "checkpoint_every": 20})
    assert set(study.plan()) == {"crosscoder", *AFTER_CROSSCODER}


def test_a_setting_reruns_what_it_reaches(study):
    study.configure(evolution={"alpha": 0.4})
    plan = study.plan()
    assert {"timing", "onset_distribution", "onset_sensitivity"} <= set(plan)
    assert not {"heldout_snapshots", "snapshot_features", "trajectories", "context_length", "complexity"} & set(plan)
    assert not {"crosscoder", "codes", "activations", "behaviour", "prompts"} & set(plan)


@pytest.mark.parametrize(
    "module, edited, reached, spared",
    [
        ("figures/style.py", "\n_UNUSED_NUMBER = 1\n", {"figures"}, {"report_never", "timing", "crosscoder"}),
        (
            "evolution/timing.py",
            "\n_UNUSED_NUMBER = 1\n",
            {"timing", "onset_sensitivity"},
            {"crosscoder", "trajectories", "rotation", "heldout_snapshots"},
        ),
        ("evolution/firing.py", "\n_UNUSED_NUMBER = 1\n", {"snapshot_features"}, {"codes", "activations"}),
        ("crosscoder/losses.py", "\n_UNUSED_NUMBER = 1\n", {"crosscoder"}, {"activations", "behaviour", "pretrain"}),
        ("evolution/timing.py", "\n# a comment\n", set(), {"timing", "report"}),
    ],
)
def test_a_code_edit_reruns_the_stages_that_it_reaches(study, module, edited, reached, spared):
    file = study.folder / "workflow" / "snapcoder" / module
    file.write_text(file.read_text() + edited)
    plan = study.plan()
    assert reached <= set(plan)
    assert not spared & set(plan)
    assert bool(plan) == bool(reached)


def test_a_changed_byte_of_a_cache_is_refused_and_named(study):
    cache = study.results / "activations/block0/step4.h5"
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(bytes(data))
    assert [(f.kind, f.path) for f in audit_study(study.results).findings] == [
        ("altered", "activations/block0/step4.h5")
    ]
    (study.results / "crosscoder/block0/dictionary.safetensors").unlink()
    process = launch(study)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "step4.h5: was changed after step activations wrote it" in output
    assert not (study.results / "crosscoder/block0/dictionary.safetensors").exists()


def snapcoder(workflow, *arguments, status=0):
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(workflow.folder / "workflow"),
        "HOME": str(workflow.folder),
    }
    command = [sys.executable, "-m", "snapcoder", *arguments]
    done = subprocess.run(command, cwd=workflow.folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_commands_of_the_readme_answer(finished):
    assert "none: everything is there and up to date" in snapcoder(finished, "plan")
    audit = snapcoder(finished, "audit", "results/tiny")
    assert "settings compared with config/config.yaml" in audit
    assert "nothing altered, missing or stale" in audit
    trace = snapcoder(finished, "trace", "results/tiny/tables/block0/feature_timing.parquet")
    for step in ("timing", "rotation", "crosscoder", "activations", "pretrain", "corpus"):
        assert f"└─ {step} " in trace
    assert "given from outside the study" in trace
    assert "present in" in snapcoder(finished, "feature", "3", "--study", "results/tiny")
    assert "not in the dictionary" in snapcoder(finished, "feature", "9999", "--study", "results/tiny", status=1)
    assert "no study here" in snapcoder(finished, "audit", "results/nothing", status=1)


def test_the_audit_sees_a_changed_setting_that_was_touched_over(study):
    study.configure(evolution={"alpha": 0.4})
    study.snakemake("--touch")
    assert study.plan() == {}  # Snakemake believes the files are up to date
    said = snapcoder(study, "audit", "results/tiny", status=1)
    assert "stale" in said
    assert "evolution.alpha" in said


def test_checkpoints_on_disk_give_a_study_of_their_own(study):
    shutil.move(study.results / "snapshots", study.folder / "checkpoints")
    shutil.copy(study.results / "corpus/tokenizer.json", study.folder / "tokenizer.json")
    shutil.rmtree(study.results)
    study.configure(
        snapshots={"source": "local", "steps": [0, 4, 40], "local": {"pattern": "checkpoints/step{step}"}},
        corpus={"tokenizer": {"path": "tokenizer.json"}},
    )
    run(study)
    facts = json.loads((study.results / "snapshots/step40/snapshot.json").read_text())
    assert facts["source"] == "local"
    assert not (study.results / "tables/training_log.parquet").exists()
    assert (study.results / "report/block0/index.html").is_file()
    assert audit_study(study.results).findings == ()
    (study.folder / "checkpoints/step4/model.safetensors").write_bytes(b"other weights")
    assert {finding.kind for finding in audit_study(study.results).findings} == {"stale"}


def test_killed_at_any_moment_and_started_again_the_study_ends_the_same(finished, tmp_path):
    again = copy_workflow(tmp_path)
    delays = (4.0, 7.0, 9.0, 12.0)
    for delay in delays:
        process = launch(again, start_new_session=True)
        time.sleep(delay)
        kill_session(process)
    run(again)
    assert content(again) == content(finished)


def kill_session(process):
    """Kill -9 the run, Snakemake and every job at once, as a power cut would."""
    import psutil

    victims = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    for pid in victims:
        try:
            psutil.Process(pid).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()
