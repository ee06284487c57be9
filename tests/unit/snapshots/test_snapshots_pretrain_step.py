import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from snapcoder.job import Job
from snapcoder.steps import pretrain as step_module
from snapcoder.steps.pretrain import pretrain, work_folder
from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.json_file import read_json
from snapcoder.storage.tables import read_table
from snapcoder.storage.tokens import TokenTable, write_tokens
from snapcoder.study.snapshots import PretrainSettings

SAVED = (0, 3, 10, 24)
SETTINGS = PretrainSettings(
    d_model=16, n_layers=2, n_heads=2, steps=24, batch_size=8, warmup_steps=4, save_steps=SAVED, checkpoint_every=4
)
SCRIPT = """
import json, sys
from pathlib import Path
from snapcoder.steps.pretrain import pretrain
sys.path.insert(0, sys.argv[2])
from test_snapshots_pretrain_step import make_job
from snapcoder.study.snapshots import PretrainSettings
settings = json.loads(sys.argv[3])
settings["save_steps"] = tuple(settings["save_steps"])
pretrain(make_job(Path(sys.argv[1]), PretrainSettings(**settings)))
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make_job(root, settings=SETTINGS, *, code="c1", fixed_batch=6):
    tokens = root / "corpus/tokens.h5"
    if not tokens.is_file():
        draw = np.random.default_rng(0)
        table = TokenTable(
            tokens=draw.integers(0, 40, size=(60, 12)).astype(np.uint16),
            doc=np.repeat(np.arange(60, dtype=np.int32)[:, None], 12, axis=1),
            split=(np.arange(60) >= 50).astype(np.uint8),
            vocab_size=40,
            end_of_text=0,
            tokenizer_sha256="x",
        )
        tokens.parent.mkdir(parents=True)
        write_tokens(tokens, table, {})
    folders = [root / f"snapshots/step{step}" for step in settings.save_steps]
    return Job(
        step="pretrain",
        inputs={"tokens": (tokens,)},
        outputs={
            "weights": tuple(folder / "model.safetensors" for folder in folders),
            "configs": tuple(folder / "config.json" for folder in folders),
            "facts": tuple(folder / "snapshot.json" for folder in folders),
            "log": (root / "tables/training_log.parquet",),
        },
        settings={"pretrain": asdict(settings), "fixed_batch": fixed_batch},
        threads=1,
        core={"step": "pretrain", "code": code, "settings": json.loads(json.dumps(asdict(settings)))},
    )


def hashes(job):
    return {
        str(path.name) + str(n): file_sha256(path) for files in job.outputs.values() for n, path in enumerate(files)
    }


def delete_outputs(job):
    """Do to a failed job's outputs what Snakemake does."""
    for files in job.outputs.values():
        for path in files:
            path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"))
    pretrain(job)
    return hashes(job)


def test_every_saved_step_has_weights_configuration_and_facts(tmp_path, expected):
    job = make_job(tmp_path)
    pretrain(job)
    assert hashes(job) == expected  # the same bytes in another folder
    assert not work_folder(job.output("log")).exists()
    for index, step in enumerate(SAVED):
        facts = read_json(job.outputs["facts"][index])
        assert (facts["step"], facts["tokens"], facts["folder"]) == (step, step * 8 * 12, ".")
        assert facts["files"]["model.safetensors"] == file_sha256(job.outputs["weights"][index])
        assert (facts["n_layers"], facts["d_model"], facts["architecture"]) == (2, 16, "GPTNeoXForCausalLM")
        assert 2 < facts["loss_fixed_batch"] < 5
        header = job.outputs["weights"][index].read_bytes()
        assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"] == {"format": "pt"}
    assert read_table(job.output("log"))["step"].tolist() == list(range(1, 25))


@pytest.mark.parametrize("moment", ["save_weights", "save_checkpoint", "_publish", "write_json", "write_table"])
@pytest.mark.parametrize("call", [1, 3])
def test_stopped_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch, expected, moment, call):
    job = make_job(tmp_path)
    real, calls = getattr(step_module, moment), []

    def stopping(*args, **more):
        calls.append(1)
        if len(calls) == min(call, 1 if moment == "write_table" else call):
            raise KeyboardInterrupt
        return real(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(step_module, moment, stopping)
        with pytest.raises(KeyboardInterrupt):
            pretrain(job)
    delete_outputs(job)
    updates = []
    monkeypatch.setattr(step_module, "train", counting(step_module.train, updates))
    pretrain(job)
    assert hashes(job) == expected
    if moment in ("_publish", "write_json", "write_table"):
        assert updates == [24]  # training was over: nothing is trained again


def counting(train, starts):
    def counted(state, *args, **more):
        starts.append(state.step)
        train(state, *args, **more)

    return counted


def test_killed_without_warning_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    settings = PretrainSettings(**{**asdict(SETTINGS), "steps": 500, "save_steps": (0, 10, 40, 500)})
    job = make_job(tmp_path / "killed", settings)
    work = work_folder(job.output("log"))
    environment = {**os.environ, "PYTHONPATH": str(Path(step_module.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    arguments = [str(tmp_path / "killed"), str(Path(__file__).parent), json.dumps(asdict(settings))]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], env=environment)
    end = time.monotonic() + 60
    while not (work / "step40.safetensors").is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the step ended before it could be killed"
    delete_outputs(job)
    starts = []
    monkeypatch.setattr(step_module, "train", counting(step_module.train, starts))
    pretrain(job)
    assert 0 < starts[0] < 500
    whole = make_job(tmp_path / "whole", settings)
    pretrain(whole)
    assert hashes(job) == hashes(whole)


@pytest.mark.parametrize("damage", ["other code", "lost weights", "broken checkpoint", "no checkpoint"])
def test_a_work_folder_that_cannot_be_trusted_is_started_afresh(tmp_path, monkeypatch, expected, damage):
    job = make_job(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(step_module, "write_table", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pretrain(make_job(tmp_path, code="c0") if damage == "other code" else job)
    work = work_folder(job.output("log"))
    checkpoint = work / "checkpoint.safetensors"
    if damage == "lost weights":
        (work / "step3.safetensors").unlink()
    elif damage == "broken checkpoint":
        checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    elif damage == "no checkpoint":
        checkpoint.unlink()
    (work / "stray").write_text("left over")
    delete_outputs(job)
    starts = []
    monkeypatch.setattr(step_module, "train", counting(step_module.train, starts))
    pretrain(job)
    assert starts == [0]
    assert hashes(job) == expected
    assert not work.exists()


def interrupt(*_args, **_more):
    raise KeyboardInterrupt


def test_file_systems_without_hard_links_get_copies(tmp_path, monkeypatch, expected):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    job = make_job(tmp_path)
    pretrain(job)
    assert hashes(job) == expected


def test_too_few_heldout_sequences_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"snapshots\.fixed_batch: 11 held-out sequences wanted, the corpus has 10"):
        pretrain(make_job(tmp_path, fixed_batch=11))
    assert not (tmp_path / "snapshots").exists()


@pytest.mark.parametrize("when", ["update", "snapshot"])
def test_divergence_is_one_clear_error(tmp_path, monkeypatch, when):
    real = torch.nn.functional.cross_entropy

    def broken(*args, **more):
        scoring = more.get("reduction") == "none"
        return real(*args, **more) * (float("nan") if scoring == (when == "snapshot") else 1.0)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", broken)
    with pytest.raises(ValueError, match=r"training diverged: the .*loss .*step \d+ is not finite; lower pretrain\.lr"):
        pretrain(make_job(tmp_path))
