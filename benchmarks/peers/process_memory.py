"""Resident memory of this process, and its peak since a moment of choice (Linux)."""

import ctypes
import gc
from pathlib import Path


def _field(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {name}; this benchmark measures memory on Linux only")


def resident_bytes() -> int:
    """Return the resident memory now."""
    return _field("VmRSS")


def peak_bytes() -> int:
    """Return the largest resident memory since `reset_peak`."""
    return _field("VmHWM")


def reset_peak() -> bool:
    """Give freed memory back to the system and start a new peak; False where the kernel does not let us."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
