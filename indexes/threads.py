"""Python's threads, as many as FAISS uses: numpy and FAISS let others run while they compute."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss


def threads() -> int:
    return int(faiss.omp_get_max_threads())


def in_threads(call: Callable[[Any], Any], arguments: list[Any]) -> list[Any]:
    """Return what `call` makes of each argument."""
    if min(threads(), len(arguments)) <= 1:
        return [call(argument) for argument in arguments]
    with ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(call, arguments))
