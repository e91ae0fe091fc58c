from __future__ import annotations

import os
import threading

import pytest

from indexes.device import cap_threads
from indexes.threads import in_threads, threads


@pytest.fixture(autouse=True)
def one_thread_again():
    yield
    cap_threads(1)


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_arguments(count: int) -> None:
    cap_threads(count)
    assert threads() == count
    assert in_threads(lambda i: i * i, [3, 1, 2, 5]) == [9, 1, 4, 25]
    assert in_threads(lambda i: i, []) == []


def test_as_many_run_at_once_as_faiss_has_threads() -> None:
    cap_threads(2)
    both_are_here = threading.Barrier(2)
    in_threads(lambda _: both_are_here.wait(timeout=10), [0, 1])


def test_one_thread_is_the_caller() -> None:
    cap_threads(1)
    assert set(in_threads(lambda _: threading.current_thread(), [0, 1])) == {threading.current_thread()}


def test_what_a_thread_raises_is_raised_here() -> None:
    cap_threads(2)
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda i: 1 // i, [1, 0, 1])


def test_calls_may_be_nested() -> None:
    cap_threads(2)

    def row(i: int) -> list[int]:
        return in_threads(lambda j: 10 * i + j, [0, 1, 2])

    assert in_threads(row, [0, 1, 2, 3]) == [[10 * i + j for j in range(3)] for i in range(4)]


def test_after_an_error_nothing_more_is_begun() -> None:
    cap_threads(2)
    begun, failed = threading.Event(), threading.Event()
    done = []

    def call(i: int) -> None:
        if i == 2:  # the caller's, while the other thread is at 0
            assert begun.wait(timeout=10)
            raise ValueError("the last")
        begun.set()
        failed.wait(timeout=10)
        done.append(i)

    with pytest.raises(ValueError, match="the last"):
        in_threads(call, [0, 1, 2])
    failed.set()
    assert in_threads(lambda i: i, [0, 1]) == [0, 1]  # by the same thread, after what it still had to do
    assert 1 not in done


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_has_threads_of_its_own() -> None:
    cap_threads(2)
    in_threads(abs, [1, 2])
    child = os.fork()
    if not child:  # no test runner in here
        os._exit(0 if in_threads(abs, [-1, -2, -3]) == [1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
