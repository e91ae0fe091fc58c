"""Python's threads, as many as FAISS uses: numpy and FAISS let others run while they compute."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import faiss


def threads() -> int:
    return int(faiss.omp_get_max_threads())


def in_threads(call: Callable[[Any], Any], arguments: list[Any]) -> list[Any]:
    """Return what `call` makes of each argument. The caller's thread is one of those that compute.

    Calls may be nested: what no other thread has begun with, the caller does itself.
    """
    most = threads()  # asked once: it lets other threads run, and waits until they let it
    if min(most, len(arguments)) <= 1:
        return [call(argument) for argument in arguments]
    pool = _pool(most - 1)
    begun = [pool.submit(call, argument) for argument in arguments[:-1]]
    own: dict[Future, Any] = {}
    try:
        last = call(arguments[-1])
        for future, argument in zip(reversed(begun), reversed(arguments[:-1])):  # the others begin in front
            if future.cancel():
                own[future] = call(argument)
        return [own[future] if future in own else future.result() for future in begun] + [last]
    finally:
        for future in begun:
            future.cancel()


@lru_cache(maxsize=None)
def _pool(others: int) -> ThreadPoolExecutor:
    """Kept: to start threads takes longer than some searches."""
    return ThreadPoolExecutor(others, thread_name_prefix="indexes")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not come along
