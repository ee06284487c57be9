"""`python -m snapcoder`: steps for rules, commands for people."""

import os
import sys

import psutil


def _let_threads_wait(arguments: list[str]) -> None:
    """Choose how OpenMP threads wait, before torch is loaded and reads it.

    Spinning threads are half as fast again on an idle machine and several times slower beside a busy neighbour
    (benchmarks/thread_waiting.md), so they spin only when nobody else wants a core. Results do not depend on it.
    """
    several = "--threads" in arguments[:-1] and arguments[arguments.index("--threads") + 1] != "1"
    busy_cores = psutil.cpu_percent(interval=0.3) / 100 * (psutil.cpu_count() or 1) if several else 1.0
    if busy_cores > 0.3:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


if __name__ == "__main__":
    _let_threads_wait(sys.argv[1:])
    from snapcoder.cli import main  # only now: it may load torch

    sys.exit(main())
