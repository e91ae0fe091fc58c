"""Processes that do a thread's work, where Python's threads wait for each other too long.

Not multiprocessing: its workers run a script that has no `__main__` guard once more, and those that are
forked do not survive beside CUDA. These are started from nothing, import neither torch nor the script, know
of no Ctrl-C, and end with the process that asks them, however that ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Callable, Sequence

log = logging.getLogger("retrieval")

_START = "import sys; sys.path[:] = {path!r}; from retrieval.decoding import answer; answer()"
_PIPE_BYTES = 1 << 20  # what Linux grants anyone: a batch of answers takes few turns then
_GONE = (OSError, EOFError, pickle.UnpicklingError, ValueError)  # ValueError: its pipes are closed


class Workers:
    """A process for each thread that asks, started when it first does."""

    def __init__(self, work: Callable[..., Any]):
        """Raises what pickle does, of many kinds, where `work` cannot be sent."""
        self._work = pickle.dumps(work, protocol=5)
        self._own = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._closed = self._told = False

    def ask(self, items: Sequence[tuple]) -> list[Any]:
        """What `work(*item)` returns, of each item. None where it raised, or its process is gone: do it here.

        Raises CancelledError once this is closed.
        """
        try:
            if not hasattr(self._own, "process"):
                self._own.process = self._start()
            if self._own.process is not None:
                pickle.dump(items, self._own.process.stdin, protocol=5)
                self._own.process.stdin.flush()
                return pickle.load(self._own.process.stdout)
        except _GONE:
            self._own.process = None
            self._tell()
        if self._closed:
            raise CancelledError
        return [None] * len(items)

    def close(self) -> None:
        """End the processes, whatever they are at. Safe to call while others ask."""
        with self._lock:
            self._closed = True
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not sent yet
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        code = _START.format(path=sys.path)
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # nothing there computes in threads
        with self._lock:
            if self._closed:
                raise CancelledError
            # On Linux it is as nice as the thread that starts it.
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, **alone}, start_new_session=True,
            )
            self._started.append(process)
        with suppress(ImportError, AttributeError, OSError):  # Linux alone has it, and may refuse
            import fcntl

            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        process.stdin.write(self._work)
        return process

    def _tell(self) -> None:
        """Once, unless this is closed."""
        with self._lock:
            told, self._told = self._told or self._closed, True
        if not told:
            log.warning("A process that was to decode images ended or could not be started; "
                        "this one goes on with its share.")


def answer() -> None:
    """Serve the process that started this one, until it closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where sessions of one's own do not keep it away
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get among the answers
    questions = sys.stdin.buffer
    with suppress(Exception):  # it ends in the middle of something, where the other process did
        work = pickle.load(questions)
        while True:
            items = pickle.load(questions)
            pickle.dump([_attempt(work, item) for item in items], answers, protocol=5)
            answers.flush()
    os._exit(0)  # unsent answers would be complained about


def _attempt(work: Callable[..., Any], item: tuple) -> Any:
    try:
        return work(*item)
    except Exception:  # raised again where it can be told
        return None
