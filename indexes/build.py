"""Building an index: train on a sample, then add block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from indexes.cagra import LEAST, graph_by_gpu, is_cagra, links_of
from indexes.device import gpus, to_device, why_not_cagra
from indexes.errors import SpecError, VectorError, VectorIndexError
from indexes.index import VectorIndex
from indexes.layers import is_on_gpu, numbered
from indexes.spec import IndexSpec
from indexes.spread import gpu_resources
from indexes.training import FaissRefused, faiss_call, least_to_train, train
from indexes.vectors import shape_of, unit_blocks

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def build_index(
    vectors: Any,
    spec: IndexSpec = IndexSpec(),
    *,
    rows: Any = None,
    device: str = "auto",
    memory: int | None = None,
    progress: Progress | None = None,
) -> VectorIndex:
    """Return an index over `vectors`, read in blocks, so that a memory map may be larger than RAM.

    vectors   (n, d) float32 or float16 unit rows: an array, a memory map, or anything with a
              shape whose row ranges can be sliced; float16 rows are brought back to unit length
    rows      (n,) int64, strictly increasing: the row numbers that a search returns, for
              instance with deleted rows left out; None numbers them 0..n-1
    device    "auto", "cpu" or "gpu": where to build, and where the index then runs; a GPU links
              CAGRA wherever it runs then. Without one the CPU does, and a warning says so
    memory    bytes that the sample which the index is trained on may take: fewer vectors then, but
              never too few; None: no limit. needed_memory() says what it takes at the least
    progress  called with (rows added, n) after every block

    The same vectors and spec train the same index (HNSW graphs depend on thread timing).
    Raises SpecError if FAISS cannot build spec.factory, or needs more vectors to train it;
    VectorError on unfit vectors or rows; VectorIndexError on a device that cannot be had.
    """
    n, dim = shape_of(vectors)
    rows = _checked_rows(rows, n)
    index = spec.empty_index(dim)
    least = least_to_train(index)
    if not index.is_trained and n < least:
        raise SpecError(_too_few(spec, n, least))
    if is_cagra(index):
        return VectorIndex(to_device(_cagra(index, vectors, spec, rows, device, progress), device), spec)
    index = to_device(index, device)
    try:
        if not index.is_trained:
            train(index, vectors, least=least, seed=spec.seed, memory=memory)
        index = _add(index, vectors, n, rows, progress)
    except FaissRefused:
        if not is_on_gpu(index):
            raise SpecError(
                f'FAISS could not build "{spec.factory}" over {n} vectors of {dim} dimensions. '
                'Try a simpler factory string; "Flat" always works.'
            ) from None
        several = len(gpus()) > 1  # they may hold together what one could not build
        if device == "gpu" and not several:
            raise VectorIndexError(
                f'The GPU could not build "{spec.factory}" over {n} vectors, most likely for '
                "lack of memory. Use device cpu or auto."
            ) from None
        log.info("Building again on the CPU: the GPU could not build %s.", spec.factory)
        index = None  # and with it the memory that it took
    if index is None:
        built = build_index(
            vectors, spec, rows=rows, device="cpu", memory=memory, progress=progress
        )
        return built.on(device) if several else built
    if is_on_gpu(index) and len(gpus()) > 1:
        index = to_device(index, "cpu")  # from where it goes to all of them
        index = to_device(index, device)
    return VectorIndex(index, spec)


def add_vectors(
    index: VectorIndex, vectors: Any, rows: np.ndarray, *, progress: Progress | None = None
) -> VectorIndex:
    """Return the index with more vectors in it, as it was trained; the one given is used up.

    index    on the CPU, and not mapped from its file
    vectors  (m, d) as build_index takes them
    rows     (m,) int64, strictly increasing, all above those that the index holds

    Raises VectorError on unfit vectors or rows, VectorIndexError if FAISS cannot add them.
    """
    m, _ = shape_of(vectors)
    rows = np.asarray(rows, np.int64)
    _checked_rows(rows, m)
    held, n = index.rows, index.n
    if m and n and rows[0] <= held[-1]:
        raise VectorError(f"row {rows[0]} cannot be added behind row {held[-1]}.")
    faiss_index = index.faiss_index
    mapped = isinstance(faiss_index, faiss.IndexIDMap)
    follow = not mapped and np.array_equal(rows, np.arange(n, n + m))
    if not (mapped or follow):
        faiss_index = numbered(faiss_index, held)
    try:
        _add(faiss_index, vectors, m, None if follow else rows, progress)
    except FaissRefused:
        raise VectorIndexError(
            f'FAISS could not add {m} vectors to "{index.spec.factory}". Build it anew.'
        ) from None
    return VectorIndex(faiss_index, index.spec)


def _cagra(
    empty: faiss.Index, vectors: Any, spec: IndexSpec, rows: np.ndarray | None, device: str,
    progress: Progress | None,
) -> faiss.Index:
    """Return the graph over all vectors, on the CPU: linked by a GPU, or else by the CPU as in HNSW."""
    n, dim = shape_of(vectors)
    reason = why_not_cagra(n)
    if reason is None:
        whole = np.empty((n, dim), np.float32)
        for start, block in unit_blocks(vectors):
            whole[start : start + len(block)] = block
        try:
            graph = graph_by_gpu(whole, links_of(spec.factory), gpu_resources(0), gpus()[0])
        except RuntimeError:
            reason = "the GPU could not build the graph, most likely for lack of memory"
        else:
            if progress is not None:
                progress(n, n)
            return graph if rows is None else numbered(graph, rows)
    if device == "gpu":
        raise VectorIndexError(f"device gpu was asked for, but {reason}. Use device cpu or auto.")
    if n >= LEAST:
        log.warning('"%s" is built on the CPU, as an HNSW graph: %s.', spec.factory, reason)
    return _add(empty, vectors, n, rows, progress)


def _add(
    index: faiss.Index, vectors: Any, n: int, rows: np.ndarray | None, progress: Progress | None
) -> faiss.Index:
    """Add every block; return the index, inside an IDMap if there are row numbers to map."""
    if rows is not None and not isinstance(index, faiss.IndexIDMap):
        index = faiss.IndexIDMap(index)
    for start, block in unit_blocks(vectors):  # (b, d)
        with faiss_call():
            if rows is None:
                index.add(block)
            else:
                index.add_with_ids(block, rows[start : start + len(block)])
        if progress is not None:
            progress(start + len(block), n)
    return index


def _checked_rows(rows: Any, n: int) -> np.ndarray | None:
    """Return rows (n,) int64, or None where they are 0..n-1 and need no map.

    Raises VectorError unless there are n of them, non-negative and strictly increasing.
    """
    if rows is None:
        return None
    rows = np.asarray(rows)
    if rows.dtype != np.int64 or rows.shape != (n,):
        raise VectorError(
            f"rows must be int64 of shape ({n},), one per vector, "
            f"got {rows.dtype} of shape {rows.shape}."
        )
    wrong = np.flatnonzero(np.diff(rows, prepend=-1) <= 0)
    if wrong.size:
        at = int(wrong[0])
        raise VectorError(
            f"rows must be non-negative and strictly increasing; position {at} holds {rows[at]}."
        )
    return None if n == 0 or rows[-1] == n - 1 else np.ascontiguousarray(rows)


def _too_few(spec: IndexSpec, n: int, least: int) -> str:
    return (
        f'"{spec.factory}" needs at least {least} vectors to train, and there are {n}. '
        'Use "Flat", which needs no training, or fewer lists.'
    )
