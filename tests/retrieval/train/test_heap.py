"""What is freed is used again, and given back at the end."""

import platform
import resource

import numpy as np
import pytest

from retrieval.train import heap

BLOCK = 64 << 20  # bytes; glibc maps blocks above 32 MiB, whatever it has learned


def faults_of_a_second_block():
    """Pages that the kernel had to bring to this thread for it, after one like it was freed."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        np.full(BLOCK, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def faults_of_smaller_blocks():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        np.full(BLOCK // 4, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_block_is_used_again():
    outside = faults_of_a_second_block()
    with heap.freed_memory_kept():
        inside = faults_of_a_second_block()
    assert inside < 16  # pages of 2 MiB would make 32
    assert outside >= 32 and faults_of_a_second_block() >= 32
    assert faults_of_smaller_blocks() < 8  # the C library does not adapt any more: it is left as it would have come to


def test_nothing_happens_with_another_c_library(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with heap.freed_memory_kept():
        assert heap._mallopt() is None
