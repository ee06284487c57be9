"""No orphans: a job ends when its run ends, and never works beside another process on the same job."""

import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "SNAPCODER_RUN"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; call it between fork and exec."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_run() -> None:
    """Kill this process as soon as the run that started it is gone, even if it was killed.

    Snakemake starts jobs through a shell, so the death of the run does not reach them by itself; left alone, a job
    would go on and write beside the same job of the next run.
    """
    run = os.environ.get(VARIABLE)
    if not run or not hasattr(os, "pidfd_open"):
        return
    try:
        watched = os.pidfd_open(int(run))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return

    def watch() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def only_one(lock: Path) -> Iterator[bool]:
    """Hold the lock of a job; yield whether another process had it first, after waiting for that one to end."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        waited = False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield waited
