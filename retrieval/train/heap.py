"""Memory that one step frees is kept for the next.

The C library maps large blocks anew each time they are asked for, and the kernel clears them: half of the time of
a step on a processor.
"""

from __future__ import annotations

import ctypes
import platform
from contextlib import contextmanager
from typing import Callable, Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's mallopt
_NEVER = -1
# What glibc comes to by itself in a process that uses large blocks; once told, it adapts no more.
_AFTERWARDS = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """The process holds what it once needed, until the end of this. Does nothing but with glibc."""
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        for what, value in _AFTERWARDS:
            mallopt(what, value)
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt() -> Callable[[int, int], int] | None:
    return ctypes.CDLL(None).mallopt if platform.libc_ver()[0] == "glibc" else None
