"""Where an index runs: how many CPU threads, and whether on a GPU, or on several."""

from __future__ import annotations

import logging
import os
import threading

import faiss

from indexes import cagra
from indexes.errors import VectorIndexError
from indexes.layers import is_on_gpu, layers
from indexes.matches import checked_count
from indexes.spread import origin, spread

log = logging.getLogger(__name__)

_NO_GPU = "FAISS sees no GPU on this machine"

DEVICES = ("auto", "cpu", "gpu")
GPU_MAX_K = 2048  # FAISS's limit on k, and on nprobe, for GPU indexes

# GPU searches share one pool of scratch memory, which FAISS does not guard against threads.
gpu_lock = threading.Lock()

# Types that go to a GPU and come back as they were. SQfp16 is not among them: it comes back as
# Flat, twice the size of what the spec asked for. Nor is RaBitQ: FAISS 1.15 has it for no GPU.
_MOVABLE = {
    faiss.IndexIDMap,
    faiss.IndexPreTransform,
    faiss.IndexFlat,
    faiss.IndexFlatIP,
    faiss.IndexIVFFlat,
    faiss.IndexIVFScalarQuantizer,
    faiss.IndexIVFPQ,
    faiss.IndexHNSWCagra,
}


def cap_threads(n: int | None = None) -> int:
    """Set how many threads FAISS uses, once at start, and return that number.

    n  threads; None takes the CPUs this process may use, which in a container or under taskset
       are fewer than the machine has. FAISS and torch each bring an OpenMP runtime and each
       start as many threads as they see CPUs: set torch's beside this one.

    Raises VectorIndexError on n < 1.
    """
    threads = usable_cpus() if n is None else checked_count(n, "The number of threads")
    faiss.omp_set_num_threads(threads)
    return threads


def usable_cpus() -> int:
    """Return the number of CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_count() -> int:
    """Return the number of GPUs FAISS sees: 0 in a CPU-only build, or without a driver."""
    try:
        return int(getattr(faiss, "get_num_gpus", int)())
    except RuntimeError:
        return 0


def to_device(index: faiss.Index, device: str = "auto") -> faiss.Index:
    """Return the FAISS index on the device asked for; the index itself where it is there already.

    device  "cpu"; "gpu", a GPU or an error; "auto", a GPU where that is possible, otherwise the
            CPU, with one line in the log that says why

    Of several GPUs each gets a copy of the index and answers its share of the queries; where that
    is too large for one, each gets its share of the vectors. An empty index, to be trained and
    filled, goes to the first, and so does CAGRA. CUDA_VISIBLE_DEVICES says which GPUs there are.
    Raises VectorIndexError on an unknown device, or "gpu" where it cannot be had.
    """
    if device not in DEVICES:
        raise VectorIndexError(f'device must be one of {", ".join(DEVICES)}, got "{device}".')
    if device == "cpu":
        return origin(index) or faiss.index_gpu_to_cpu(index) if is_on_gpu(index) else index
    if is_on_gpu(index):
        return index
    reason = _why_not_on_gpu(index)
    if reason is None:
        try:
            return spread(index, gpus() if index.ntotal else [0])
        except RuntimeError:
            reason = "the GPU did not take the index, most likely for lack of memory"
    if device == "gpu":
        raise VectorIndexError(f"device gpu was asked for, but {reason}. Use device cpu or auto.")
    # A machine without a GPU is nothing to tell at every search; a GPU left idle is.
    level = logging.DEBUG if reason == _NO_GPU else logging.INFO
    log.log(level, "The index stays on the CPU: %s.", reason)
    return index


def _why_not_on_gpu(index: faiss.Index) -> str | None:
    if gpu_count() == 0:
        return _NO_GPU
    for layer in layers(index):
        if type(layer) not in _MOVABLE:
            return (
                f"FAISS has no GPU version of {type(layer).__name__} that can be saved again "
                '(it has for "Flat", for "IVF" with "Flat", "SQ" or "PQ", and CAGRA)'
            )
    return why_not_cagra(index.ntotal) if any(map(cagra.is_cagra, layers(index))) else None


def why_not_cagra(n: int) -> str | None:
    """Return why a CAGRA graph of n vectors is nothing for a GPU here; None where one can have it."""
    if gpu_count() == 0:
        return _NO_GPU
    few = f"CAGRA pays from {cagra.LEAST} vectors on, and there are {n}"
    return cagra.missing() or (few if n < cagra.LEAST else None)


def gpus() -> list[int]:
    """Return the numbers of the GPUs that an index is spread over."""
    return list(range(gpu_count()))
