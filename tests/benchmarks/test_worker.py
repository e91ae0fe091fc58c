import importlib.util
import os
import sys
from pathlib import Path

import pytest

from benchmarks import worker
from benchmarks.case import Contender, LeftOut

HERE = Path(__file__).parent


@pytest.fixture
def contenders(monkeypatch):
    """A module under a name that the other process can import, too."""
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("contenders", HERE / "contenders.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "contenders", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(tmp_path):
    started = []

    def start(prepare, settings=None, threads=1):
        one = worker.start(Contender(prepare), settings or {}, tmp_path, threads)
        started.append(one)
        one.wait_until_prepared()
        return one

    yield start
    for one in started:
        one.close()


def test_a_worker_is_prepared_once_in_another_process(start, contenders):
    one = start(contenders.counting, {"start": 7})
    first, second = one.measure(), one.measure()
    assert (first["rounds"], second["rounds"], second["start"]) == (1, 2, 7)
    assert first["process"] == second["process"] != os.getpid()


def peaks_are_resettable():
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return "VmHWM" in Path("/proc/self/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not peaks_are_resettable(), reason="this kernel does not reset peak memory")
def test_peak_memory_is_what_the_measured_part_holds(start, contenders):
    small, large = (start(contenders.allocating, {"mib": mib}) for mib in (1, 101))
    assert small.measure() == large.measure() == {"sum": 2.0}
    assert large.peak_mib() - small.peak_mib() == pytest.approx(100, abs=10)
    assert small.peak_mib() < 150  # without the 200 of its preparation


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs cannot be chosen here")
def test_a_worker_keeps_to_its_cpus(start, contenders):
    assert start(contenders.cpus, threads=1).measure() == {"cpus": 1}


def test_what_a_contender_prints_is_not_on_stdout(start, contenders, capfd):
    assert start(contenders.chatty).measure() == {"seconds": 1.0}
    assert capfd.readouterr() == ("", "not a result\n")


def test_a_contender_can_say_that_it_cannot_run_here(start, contenders):
    with pytest.raises(LeftOut, match="^there is no such device$"):
        start(contenders.absent)


def test_an_error_is_told_in_a_line_with_its_place(start, contenders):
    one = start(contenders.broken)
    with pytest.raises(worker.ContenderFailed, match=r"^ValueError: seven is not a colour \(contenders.py, line \d+\)$"):
        one.measure()


def test_a_process_that_dies_is_told_with_its_status(start, contenders):
    one = start(contenders.dying)
    with pytest.raises(worker.ContenderFailed, match="ended with status 9"):
        one.measure()


def test_a_contender_that_is_not_isolated_runs_here(tmp_path, contenders):
    one = worker.start(Contender(contenders.counting, isolated=False), {"start": 0}, tmp_path, 1)
    one.wait_until_prepared()
    assert one.measure() == {"rounds": 1, "start": 0, "process": os.getpid()}
    assert one.peak_mib() is None


def test_nor_does_any_that_is_only_tried_out(tmp_path, contenders):
    one = worker.start(Contender(contenders.counting), {"start": 0}, tmp_path, 1, isolate=False)
    one.wait_until_prepared()
    assert one.measure()["process"] == os.getpid()


def test_here_too_what_is_printed_is_not_on_stdout(tmp_path, contenders, capsys):
    one = worker.start(Contender(contenders.chatty, isolated=False), {}, tmp_path, 1)
    one.wait_until_prepared()
    assert one.measure() == {"seconds": 1.0}
    assert capsys.readouterr() == ("", "not a result\n")


def test_here_too_a_failed_preparation_is_told_in_a_line(tmp_path, contenders):
    def prepare(settings, work):
        return contenders.broken(settings, work)()

    one = worker.start(Contender(prepare, isolated=False), {}, tmp_path, 1)
    with pytest.raises(worker.ContenderFailed, match=r"^ValueError: seven is not a colour \(contenders.py, line \d+\)$"):
        one.wait_until_prepared()
