"""What Snakemake plans when the crosscoder streams its activations."""

import json
import re

import pyarrow.parquet as pq
import pytest

from snapcoder.provenance.audit import audit_study


def dry_run(workflow, *targets):
    """Return the printed plan of every crosscoder job: its inputs, command and settings."""
    done = workflow.snakemake("--dry-run", "--printshellcmds", *targets)
    text = done.stdout + done.stderr
    found = re.search(
        r"rule crosscoder:\n\s+input: (.*?)\n.*?(python -m snapcoder crosscoder .*?)(?=\n)", text, re.DOTALL
    )
    inputs, command = found.groups()
    return inputs.split(", "), command


def settings_of(command):
    return json.loads(re.search(r"--settings '(.*?)' --code", command).group(1))


def test_streaming_reads_the_checkpoints_and_leaves_the_small_caches_as_they_are(workflow):
    cached_plan = workflow.plan()
    inputs, command = dry_run(workflow)
    assert all(re.fullmatch(r"results/tiny/activations/block0/step\d+\.h5", path) for path in inputs)
    assert "activations" not in settings_of(command)
    workflow.configure(activations={"mode": "stream", "stream_tokens": 6000}, crosscoder={"pool_tokens": 2000})
    assert workflow.plan() == cached_plan  # the same jobs: one small cache per snapshot, and nothing else
    inputs, command = dry_run(workflow)
    steps = (0, 4, 16, 40)
    assert set(inputs) == {
        "results/tiny/corpus/tokens.h5",
        *(f"results/tiny/activations/block0/step{step}.h5" for step in steps),
        *(f"results/tiny/snapshots/step{step}/{name}" for step in steps
          for name in ("snapshot.json", "config.json", "model.safetensors")),
    }  # fmt: skip
    settings = settings_of(command)
    assert settings["activations"]["stream_tokens"] == 6000
    assert settings["crosscoder"]["pool_tokens"] == 2000
    assert not {"tokens", "heldout_tokens", "layers"} & set(settings["activations"])


def test_how_much_is_streamed_changes_the_crosscoder_and_not_the_caches(workflow):
    def commands():
        done = workflow.snakemake("--dry-run", "--printshellcmds")
        text = done.stdout + done.stderr
        return {
            rule: sorted(re.findall(rf"python -m snapcoder {rule} .*", text)) for rule in ("activations", "crosscoder")
        }

    workflow.configure(activations={"mode": "stream", "stream_tokens": 6000})
    before = commands()
    workflow.configure(activations={"mode": "stream", "stream_tokens": 7000})
    after = commands()
    assert len(before["activations"]) == 4
    assert after["activations"] == before["activations"]
    assert after["crosscoder"] != before["crosscoder"]


@pytest.mark.study
def test_a_study_that_streams_runs_and_adding_tokens_trains_again_only(workflow):
    target = "results/tiny/tables/block0/recon_metrics.parquet"
    workflow.configure(activations={"mode": "stream", "stream_tokens": 6000}, crosscoder={"pool_tokens": 2000})
    workflow.snakemake(target)
    assert workflow.plan(target) == {}
    assert audit_study(workflow.results).findings == ()
    record = json.loads((workflow.results / "provenance/crosscoder.block0.json").read_text())
    assert {item["name"] for item in record["core"]["inputs"]} == {"caches", "facts", "weights", "tokens"}
    assert set(pq.read_table(workflow.folder / target)["n_rows"].to_pylist()) == {1000}
    workflow.configure(activations={"mode": "stream", "stream_tokens": 7000})
    assert workflow.plan(target) == {"crosscoder": ["layer=0"]}
    workflow.configure(activations={"mode": "cache"})
    assert workflow.plan(target) == {"crosscoder": ["layer=0"]}
