"""What is freed is used again, and given back at the end."""

import json
import platform
import subprocess
import sys

import pytest

from retrieval.train import heap

# In a process of its own: what others freed before decides what the kernel has to bring.
SCRIPT = """
import json, resource
import numpy as np
from retrieval.train.heap import freed_memory_kept

def faults(mebibytes):
    \"\"\"Pages that the kernel brings for a second block, after one like it was freed.\"\"\"
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        np.full(mebibytes << 20, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

before = faults(64)  # glibc maps blocks above 32 MiB anew, whatever it has learned
with freed_memory_kept():
    inside = faults(64)
print(json.dumps([before, inside, faults(64), faults(16)]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_block_is_used_again():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, inside, after, smaller_after = json.loads(ran.stdout)
    assert inside < 16  # pages of 2 MiB would make 32
    assert before >= 32 and after >= 32
    assert smaller_after < 16  # glibc adapts no more: it is left as it would have come to by itself


def test_nothing_happens_with_another_c_library(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with heap.freed_memory_kept():
        assert heap._mallopt() is None
