"""Python's threads, as many as FAISS uses: numpy and FAISS let others run while they compute.

They are not those of concurrent.futures, which take a good part of a millisecond to begin.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from queue import SimpleQueue
from threading import Lock, Thread
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
    waiting = _waiting(most - 1)
    tasks = [_Task(call, argument) for argument in arguments[:-1]]
    for task in tasks:
        waiting.put(task)
    try:
        last = call(arguments[-1])
        for task in reversed(tasks):  # the others begin in front
            task.run()
        return [task.result() for task in tasks] + [last]
    finally:
        for task in tasks:
            task.begun.acquire(blocking=False)  # nobody begins with it now


class _Task:
    """A call that one thread does, whoever is the first to take it."""

    def __init__(self, call: Callable[[Any], Any], argument: Any) -> None:
        self._call, self._argument = call, argument
        self._value: Any = None
        self._error: BaseException | None = None
        self.begun, self._done = Lock(), Lock()
        self._done.acquire()

    def run(self) -> None:
        """Unless somebody has begun."""
        if not self.begun.acquire(blocking=False):
            return
        try:
            self._value = self._call(self._argument)
        except BaseException as error:  # which result() raises
            self._error = error
        self._done.release()

    def result(self) -> Any:
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value


@lru_cache(maxsize=None)
def _waiting(others: int) -> SimpleQueue[_Task]:
    """Where that many threads wait for tasks. They are kept: to start threads takes longer than some searches."""
    tasks: SimpleQueue[_Task] = SimpleQueue()

    def work() -> None:
        while True:
            tasks.get().run()

    for number in range(others):
        Thread(target=work, name=f"indexes_{number}", daemon=True).start()
    return tasks


os.register_at_fork(after_in_child=_waiting.cache_clear)  # threads do not come along
