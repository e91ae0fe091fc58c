"""Memory that one step frees is kept for the next.

The C library maps large blocks anew each time they are asked for, and the kernel clears them: half of the time of
a step on a processor.
"""

from __future__ import annotations

import ctypes
import platform
from contextlib import contextmanager
from typing import Callable, Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt
_NEVER, _DEFAULT_TRIM, _DEFAULT_MMAPS = -1, 128 * 1024, 65536


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
        mallopt(_MMAP_MAX, _DEFAULT_MMAPS)
        mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM)
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt() -> Callable[[int, int], int] | None:
    return ctypes.CDLL(None).mallopt if platform.libc_ver()[0] == "glibc" else None
