"""The step started with several processes: torchrun, one dictionary, one message when one fails, SIGTERM for all."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from planted_caches import TINY

from snapcoder.crosscoder.processes import require_gpus
from snapcoder.job import Job
from snapcoder.ranks import raise_first
from snapcoder.steps.crosscoder import crosscoder
from snapcoder.storage.dictionaries import read_dictionary
from snapcoder.storage.tables import read_table

MakeJob = Callable[..., Job]
OUTPUTS = {"dictionary": "d/dictionary.safetensors", "training": "t/training.parquet", "metrics": "t/metrics.parquet"}


def base_job(make_job: MakeJob, caches: list[Path], prefix: str, **changed: object) -> Job:
    outputs = {name: prefix + path for name, path in OUTPUTS.items()}
    return make_job("crosscoder", {"caches": caches}, outputs, crosscoder={**TINY, **changed}, layer=2)


def terminate_me_once_there_is(file: Path) -> None:
    def wait() -> None:
        while not file.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def test_two_processes_stopped_and_continued_write_the_dictionary_of_one(
    make_job: MakeJob, caches: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"steps": 60, "eval_every": 30, "checkpoint_every": 20, "lr": 2e-3, "init_norm": 0.3, "gate": "shared"}
    one = base_job(make_job, caches, "one/", **chosen)
    crosscoder(one)
    two = base_job(make_job, caches, "two/", **chosen, gpus=2, sharding="snapshots")
    work = two.output("dictionary").with_name("dictionary.work")
    terminate_me_once_there_is(work / "checkpoint" / "latest.json")
    with caplog.at_level("INFO", logger="snapcoder"), pytest.raises(SystemExit) as stopped:
        crosscoder(two)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "asked to stop" in caplog.text
    assert not two.output("dictionary").exists()
    with caplog.at_level("INFO", logger="snapcoder"):
        crosscoder(two)
    assert "continues after step" in caplog.text
    assert caplog.text.count("held-out explained variance") == 1  # one process speaks for all
    assert not work.exists()
    assert psutil.Process().children(recursive=True) == []
    ours, theirs = read_dictionary(two.output("dictionary")), read_dictionary(one.output("dictionary"))
    for name in ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=5e-3, err_msg=name)
    metrics = [read_table(job.output("metrics"))[["ev", "l0"]] for job in (two, one)]
    np.testing.assert_allclose(*metrics, atol=5e-3)
    assert len(read_table(two.output("training"))) == len(read_table(one.output("training")))


def test_the_failure_of_one_process_ends_all_with_its_message(
    make_job: MakeJob, caches: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / caches[-1].name  # only the second process reads its rows
    broken.write_bytes(caches[-1].read_bytes())
    with h5py.File(broken, "r+") as file:
        file["activations"][7, 3] = 99.0
    job = base_job(make_job, [*caches[:-1], broken], "broken/", gpus=2, sharding="snapshots")
    with pytest.raises(ValueError, match=rf"{broken.name}: rows .* are not those that were written"):
        crosscoder(job)
    assert psutil.Process().children(recursive=True) == []


def test_what_cannot_be_shared_out_is_refused_before_any_process_starts(make_job: MakeJob, caches: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"crosscoder.gpus: 5 snapshots in parts of 2"):
        crosscoder(base_job(make_job, caches, "four/", gpus=4, sharding="snapshots"))


def test_more_gpus_than_the_machine_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    require_gpus("cuda", 2)
    require_gpus("cpu", 8)
    with pytest.raises(ValueError, match=r"crosscoder.gpus: 3 asked for, but this machine has 2"):
        require_gpus("auto", 3)


def test_the_first_reason_counts_and_a_lost_connection_is_none(tmp_path: Path) -> None:
    def tell(rank: int, message: str, *, bad_input: bool) -> None:
        told = {"rank": rank, "time": 10.0 - rank, "bad_input": bad_input, "message": message, "traceback": ""}
        (tmp_path / f"rank{rank}.json").write_text(json.dumps(told))

    def reason(status: int = 1, *, stopped: bool = False) -> None:
        raise_first(tmp_path, status, 4, stopped=stopped)

    reason(status=0)
    tell(3, "gloo: Connection closed by peer [127.0.0.1]:1234", bad_input=False)
    with pytest.raises(RuntimeError, match="one of 4 processes ended without a word"):
        reason()
    with pytest.raises(SystemExit):
        reason(stopped=True)
    tell(1, "index out of range", bad_input=False)
    with pytest.raises(RuntimeError, match="process 1 of 4: index out of range"):
        reason()
    tell(2, "step10.h5: broken", bad_input=True)  # at an earlier time
    with pytest.raises(ValueError, match=r"^step10.h5: broken$"):
        reason()
