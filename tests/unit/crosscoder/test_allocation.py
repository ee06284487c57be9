"""Freed buffers stay with the process."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
from snapcoder.crosscoder.allocation import keep_freed_memory

def step():
    return [b"x" * (16 << 20) for _ in range(3)]  # 3 × 4096 pages

if {keep}:
    keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_step_that_asks_again_for_what_the_last_one_freed_gets_it_without_page_faults() -> None:
    def faults(keep: bool) -> int:
        return int(subprocess.check_output([sys.executable, "-c", COUNT_FAULTS.format(keep=keep)], text=True))

    assert faults(True) < 100
    assert faults(True) <= faults(False)
