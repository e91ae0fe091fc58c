"""A contender in a process of its own: prepared once, then measured whenever its turn comes.

So contenders take turns without loading anything twice, and none pays for another's memory.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.case import BenchmarkError, Contender, LeftOut, Metrics, Prepare

_SECONDS_TO_LEAVE = 3


class ContenderFailed(BenchmarkError):
    """A contender raised, or its process died."""


class ProcessWorker:
    """Prepares itself while others do; every method raises ContenderFailed when that is due."""

    def __init__(self, contender: Contender, settings: Mapping[str, Any], work: Path, threads: int):
        spawn = multiprocessing.get_context("spawn")  # a fork would inherit the runner's memory
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, contender.prepare, dict(settings), work, threads)
        )
        self._process.start()
        theirs.close()

    def wait_until_prepared(self) -> None:
        """Raises LeftOut if the contender cannot run here."""
        self._answer()

    def measure(self) -> Metrics:
        return self._ask("measure")

    def peak_mib(self) -> float | None:
        return self._ask("peak")

    def close(self) -> None:
        self._connection.close()  # which the worker takes as leave to go
        self._process.join(_SECONDS_TO_LEAVE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ask(self, what: str) -> Any:
        try:
            self._connection.send(what)
        except OSError:
            pass  # it died; reading says how
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, content = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_LEAVE)
            raise ContenderFailed(
                f"its process ended with status {self._process.exitcode}, perhaps for lack of memory"
            ) from None
        if kind == "left out":
            raise LeftOut(content)
        if kind == "failed":
            raise ContenderFailed(content)
        return content


class LocalWorker:
    """The same in this process, for contenders that need neither memory figures nor a clean start."""

    def __init__(self, contender: Contender, settings: Mapping[str, Any], work: Path):
        self._prepare = lambda: contender.prepare(settings, work)

    def wait_until_prepared(self) -> None:
        with _as_in_a_process():
            self._measure = self._prepare()

    def measure(self) -> Metrics:
        with _as_in_a_process():
            return self._measure()

    def peak_mib(self) -> float | None:
        return None

    def close(self) -> None:
        pass


def start(
    contender: Contender, settings: Mapping[str, Any], work: Path, threads: int, isolate: bool = True
) -> ProcessWorker | LocalWorker:
    """A worker that is being prepared. Close it, whatever happens to it."""
    if contender.isolated and isolate:
        return ProcessWorker(contender, settings, work, threads)
    return LocalWorker(contender, settings, work)


def forget_peak() -> None:
    """Count peak memory from here: what it took to generate photos and vectors is no contender's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux; there the peak is that of the whole process
        pass


def peak_mib() -> float:
    """The most memory this process has had resident since forget_peak, in MiB."""
    try:
        # Linux's ru_maxrss survives exec: a small child of a large parent shows the parent's peak.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return _maxrss_mib(resource.RUSAGE_SELF)


def peak_mib_of_children() -> float:
    """The most memory that one finished child of this process had resident, in MiB."""
    return _maxrss_mib(resource.RUSAGE_CHILDREN)


def _maxrss_mib(who: int) -> float:
    most = resource.getrusage(who).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _serve(
    connection: Connection, prepare: Prepare, settings: dict[str, Any], work: Path, threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner is interrupted, and closes the pipe
    os.dup2(2, 1)  # stdout carries results only, and they come from the runner
    _use_cpus(threads)
    try:
        measure = prepare(settings, work)
        forget_peak()
        connection.send(("prepared", None))
        while True:
            asked = connection.recv()
            connection.send(("done", measure() if asked == "measure" else peak_mib()))
    except (EOFError, BrokenPipeError):
        pass
    except LeftOut as reason:
        connection.send(("left out", str(reason)))
    except Exception as error:
        connection.send(("failed", _in_a_line(error)))


def _use_cpus(threads: int) -> None:
    """Keep to as many CPUs as threads are claimed; libraries count CPUs where no variable binds them."""
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        if threads < len(usable):
            os.sched_setaffinity(0, usable[:threads])


@contextmanager
def _as_in_a_process() -> Iterator[None]:
    """What a contender prints and raises in this process, told as from one of its own."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except LeftOut:
        raise
    except Exception as error:
        raise ContenderFailed(_in_a_line(error)) from error


def _in_a_line(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
