"""Run one step in several processes, one per GPU: torchrun starts them, and each calls the step with the same job.

The process that a rule started stays outside: it checks code and inputs, waits, relays what the first process says,
and writes the record. The step itself sees to it that only the first process (rank 0) writes its outputs.
"""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

from snapcoder.job import Job
from snapcoder.lifeline import die_with_parent, end_with_run

logger = logging.getLogger("snapcoder")

_LOST_A_PEER = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
"""What a process says of which another one has gone: a consequence, never the reason."""

_LAST_WORDS = 3.0
"""Seconds that the other processes get after one has failed; they cannot go on without it."""


def run_in_ranks(job: Job, n_ranks: int) -> None:
    """Run the job's step in n_ranks processes and wait for them.

    SIGTERM is passed on to all of them; when they have ended, this process does too, with the code of a SIGTERM. When
    one fails, the others are ended and its message is raised: ValueError for bad input, RuntimeError for anything else.
    """
    with tempfile.TemporaryDirectory(prefix="snapcoder-ranks-") as folder:
        errors = Path(folder) / "errors"
        errors.mkdir()
        description = Path(folder) / "job.json"
        description.write_text(json.dumps(asdict(job), default=str), encoding="utf-8")
        threads = max(1, job.threads // n_ranks)
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"),
            *("-m", "snapcoder.ranks", str(description), str(errors), str(threads)),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        agent = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=die_with_parent,
        )
        relays = [_relay(agent.stdout, logging.INFO), _relay(agent.stderr, logging.DEBUG)]
        with _pass_on_sigterm(agent) as stop:
            _wait(agent, errors)
        for relay in relays:
            relay.join()
        raise_first(errors, agent.returncode, n_ranks, stopped=stop.is_set())


def _wait(agent: "subprocess.Popen[str]", errors: Path) -> None:
    """Wait for the processes; end them soon after one has failed, because the others wait for it in vain."""
    failed_at: float | None = None
    while agent.poll() is None:
        time.sleep(0.1)
        if failed_at is None and any(errors.iterdir()):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > _LAST_WORDS:
            agent.kill()  # its processes are killed with it
            agent.wait()


def raise_first(errors: Path, status: int, n_ranks: int, *, stopped: bool) -> None:
    """Raise the first error of any process; nothing when all ended well."""
    told = [json.loads(file.read_text(encoding="utf-8")) for file in errors.glob("rank*.json")]
    told = [error for error in told if not any(sign in error["message"] for sign in _LOST_A_PEER)]
    if told:
        first = min(told, key=lambda error: float(error["time"]))
        logger.debug("traceback of process %d:\n%s", first["rank"], first["traceback"])
        if first["bad_input"]:
            raise ValueError(first["message"])
        raise RuntimeError(f"process {first['rank']} of {n_ranks}: {first['message']}")
    if status != 0 and stopped:
        raise SystemExit(128 + signal.SIGTERM)
    if status != 0:
        raise RuntimeError(
            f"one of {n_ranks} processes ended without a word (status {status}), as they do when memory runs out; "
            "the log has more"
        )


def _relay(stream: IO[str] | None, level: int) -> threading.Thread:
    """Log every line that the processes write."""
    assert stream is not None

    def copy() -> None:
        for line in stream:
            logger.log(level, "%s", line.rstrip("\n"))
        stream.close()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


@contextmanager
def _pass_on_sigterm(agent: "subprocess.Popen[str]") -> Iterator[threading.Event]:
    """Send SIGTERM on to the processes themselves: torchrun would give them only seconds to save their state.

    Yields whether one came.
    """
    asked = threading.Event()

    def pass_on(*_: Any) -> None:
        asked.set()
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(agent.pid).children():
                process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: list[str]) -> int:
    """Run the step as one of several processes; return the exit status."""
    die_with_parent()
    end_with_run()
    description, errors, threads = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    rank = int(os.environ["RANK"])
    _log_to_parent(rank)
    try:
        job = _read_job(description, threads)
        getattr(importlib.import_module(f"snapcoder.steps.{job.step}"), job.step)(job)
    except Exception as error:
        told = {
            "rank": rank,
            "time": time.time(),
            "bad_input": isinstance(error, ValueError | OSError),
            "message": " ".join(str(error).split()),
            "traceback": traceback.format_exc(),
        }
        part = errors.with_name(f"rank{rank}.part")
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(errors / f"rank{rank}.json")
        return 1
    return 0


def _read_job(file: Path, threads: int) -> Job:
    told = json.loads(file.read_text(encoding="utf-8"))
    for side in ("inputs", "outputs"):
        told[side] = {name: tuple(map(Path, paths)) for name, paths in told[side].items()}
    return Job(**{**told, "threads": threads})


def _log_to_parent(rank: int) -> None:
    """Let the first process speak for all."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
