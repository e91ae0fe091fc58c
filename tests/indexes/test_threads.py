from __future__ import annotations

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
