"""How this process asks the system for memory."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # a buffer above it goes back at once; glibc takes no higher value
_KEPT_IN_ALL = 256 << 20


def keep_freed_memory() -> None:
    """Let freed buffers of up to 32 MiB, 256 MiB in all, stay with the process for the next step to use.

    By default glibc returns a step's gradients and activations to the system, which clears their pages one by one when
    the next step asks for them: a third of a small step's time. The peak is the same. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL)
