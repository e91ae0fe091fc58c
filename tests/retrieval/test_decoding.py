"""Processes that do a thread's work; `eval` is work enough to look into them."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.decoding import Workers

PID = ("__import__('os').getpid()",)


@pytest.fixture
def workers():
    started = Workers(eval)
    yield started
    started.close()


def is_there(pid):
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")  # of one that ended, and that nobody asked for yet, Linux says Z
        return not (status.exists() and ") Z " in status.read_text())
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_answers_come_in_order_and_none_stands_for_what_raised():
    workers = Workers(divmod)
    try:
        assert workers.ask([(7, 2), (1, 0), (9, 4)]) == [(3, 1), None, (2, 1)]
        assert workers.ask([]) == []
    finally:
        workers.close()


def test_each_thread_has_a_process_of_its_own(workers):
    both_at_once = threading.Barrier(2)

    def pids(_):
        both_at_once.wait()
        return [workers.ask([PID])[0] for _ in range(2)]

    with ThreadPoolExecutor(2) as pool:
        (first, again), (second, once_more) = pool.map(pids, range(2))
    assert (first, second) == (again, once_more) and len({first, second, os.getpid()}) == 3


def test_what_reads_images_loads_no_torch(workers):
    heavy = "sorted({'torch', 'open_clip', 'faiss', 'numpy'} & __import__('sys').modules.keys())"
    for module in ("retrieval.reading", "retrieval.encoders.resizing"):
        assert workers.ask([(f"bool(__import__({module!r}))",)]) == [True]
    assert workers.ask([(heavy,)]) == [["numpy"]]


def test_what_is_printed_there_is_no_answer(workers):
    assert workers.ask([("__import__('os').write(1, b'from a library\\n')",), ("6 * 7",)]) == [15, 42]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others")
def test_interrupts_do_not_reach_it(workers):
    (pid,) = workers.ask([PID])
    assert os.getsid(pid) == pid != os.getsid(0)  # a terminal's Ctrl-C is for the session in front
    os.kill(pid, signal.SIGINT)
    assert workers.ask([PID]) == [pid]


def test_a_killed_one_is_told_once_and_leaves_the_work_to_its_thread(workers, caplog):
    def lost(_):
        workers.ask([PID])
        workers._own.process.kill()
        return workers.ask([("1",), ("2",)]), workers.ask([("3",)])

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for pool in (one, other):
            assert pool.submit(lost, 0).result() == ([None, None], [None])
    assert [(record.levelno, "ended" in record.message) for record in caplog.records] == [(logging.WARNING, True)]
    assert workers.ask([("4",)]) == [4]  # this thread's own


def test_one_that_cannot_be_started_leaves_the_work_to_its_thread(workers, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    assert workers.ask([("1",)]) == [None]


def test_work_that_cannot_be_sent():
    with pytest.raises(Exception, match="pickle|local object"):
        Workers(lambda: 1)


def test_closing_ends_what_is_at_work(workers):
    with ThreadPoolExecutor(1) as pool:
        (pid,) = pool.submit(workers.ask, [PID]).result()
        endless = pool.submit(workers.ask, [("__import__('time').sleep(600)",)])
        workers.close()
        with pytest.raises(CancelledError):
            endless.result(timeout=60)
        assert not is_there(pid)
        with pytest.raises(CancelledError):
            pool.submit(workers.ask, [PID]).result(timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("at", ["idle", "sleep(0.3)"])
def test_none_outlives_the_process_that_asks(at):
    code = f"""if True:
        import os, signal, threading, time
        from retrieval.decoding import Workers
        workers = Workers(eval)
        print(workers.ask([{PID}])[0], flush=True)
        if {at!r} != "idle":
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            workers.ask([("__import__('time').{at}",)])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    pid, until = int(done.stdout), time.monotonic() + 30
    while is_there(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_there(pid)
