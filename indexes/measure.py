"""What an index loses, and what its searches cost: recall against exact search, time, bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from indexes.build import build_index
from indexes.cagra import is_cagra_on_gpu
from indexes.device import GPU_MAX_K
from indexes.errors import VectorIndexError
from indexes.index import VectorIndex
from indexes.layers import is_hnsw, is_ivf, layers
from indexes.matches import Matches
from indexes.recall import ann_recall_at_k, check_columns
from indexes.spec import IndexSpec
from indexes.vectors import as_queries, shape_of

_POINTS_AT_MOST = 8
_EF_SEARCHES = (16, 32, 64, 128, 256, 512)
_QUERIES_FOR_P99, _QUERIES_AT_MOST = 100, 1000
_WARM_UP = 10  # searches before those that are timed
_BATCH_SECONDS, _BATCH_ROUNDS = 0.2, 3


@dataclass(frozen=True)
class Latency:
    """How long searches take.

    p50, p95, p99       milliseconds of one query searched alone: half, 95%, 99% take no longer
    queries_per_second  when all are searched as one batch
    threads             that FAISS may use
    queries             how many searches of one query were timed
    """

    p50: float
    p95: float
    p99: float
    queries_per_second: float
    threads: int
    queries: int


@dataclass(frozen=True)
class OperatingPoint:
    """Search parameters to measure at; None leaves the spec's value."""

    nprobe: int | None = None
    ef_search: int | None = None


def operating_points(index: VectorIndex) -> list[OperatingPoint]:
    """Return the settings worth trying for a curve of recall against latency, cheapest first.

    IVF: nprobe 1, 2, 4, ... up to all lists, thinned out to 8; HNSW and CAGRA: efSearch 16, 32,
    ... 512; the spec's own value among them. Any other index has one point, which sets nothing.
    """
    spec = index.spec
    for layer in layers(index.faiss_index):
        if is_ivf(layer):
            most = min(layer.nlist, GPU_MAX_K) if index.device == "gpu" else layer.nlist
            doublings = [2**i for i in range(most.bit_length()) if 2**i < most]
            own = None if spec.nprobe is None else min(spec.nprobe, most)
            return [OperatingPoint(nprobe=n) for n in _thinned([*doublings, most], own)]
        if is_hnsw(layer) or is_cagra_on_gpu(layer):
            values = _thinned(_EF_SEARCHES, spec.ef_search)
            return [OperatingPoint(ef_search=ef) for ef in values]
    return [OperatingPoint()]


@dataclass(frozen=True, eq=False)
class IndexMeasurement:
    """What one index finds, loses and costs at one operating point; recall is at k.

    rows                  (q, k) int64 that search() found
    ann_recall            mean of ann_recall_per_query (q,): see ann_recall_at_k
    exhaustive_rows       (q, k) int64 that search_exhaustively() found: what these miss of exact
                          search the codes have lost, what `rows` misses of these, the search
    bytes_per_vector      of the whole index as FAISS writes it, lists and graph included
    build_seconds         what build_index took
    """

    factory: str
    nprobe: int | None
    ef_search: int | None
    k: int
    rows: np.ndarray
    ann_recall: float
    ann_recall_per_query: np.ndarray
    exhaustive_rows: np.ndarray
    latency: Latency
    bytes_per_vector: float
    build_seconds: float
    n: int
    dim: int
    device: str


def measure_index(
    vectors: Any,
    spec: IndexSpec,
    queries: Any,
    exact: Matches,
    k: int,
    *,
    device: str = "auto",
) -> list[IndexMeasurement]:
    """Build an index and measure it at each of its operating_points().

    vectors, spec, device  as build_index takes them
    queries  (q, d) float32, unit rows, q >= 1
    exact    exact_search's Matches for them over `vectors`, at least k columns

    Raises what build_index and VectorIndex.search() raise; VectorIndexError if there are no
    vectors or queries, or `exact` is too narrow.
    """
    n, dim = shape_of(vectors)
    queries = as_queries(queries, dim)
    if n == 0 or len(queries) == 0:
        raise VectorIndexError(f"There is nothing to measure: {n} vectors, {len(queries)} queries.")
    check_columns(exact.rows, "exact", len(queries), k)
    start = time.perf_counter()
    index = build_index(vectors, spec, device=device)
    build_seconds = time.perf_counter() - start
    exhaustive_rows = index.search_exhaustively(queries, k).rows
    bytes_per_vector = index.nbytes / n
    measurements = []
    for point in operating_points(index):
        latency, found = _timed(index, queries, k, point)
        recall = ann_recall_at_k(found.rows, exact, k, vectors=vectors, queries=queries)
        measurements.append(
            IndexMeasurement(
                factory=spec.factory,
                nprobe=point.nprobe,
                ef_search=point.ef_search,
                k=k,
                rows=found.rows,
                ann_recall=float(recall.mean()),
                ann_recall_per_query=recall,
                exhaustive_rows=exhaustive_rows,
                latency=latency,
                bytes_per_vector=bytes_per_vector,
                build_seconds=build_seconds,
                n=n,
                dim=dim,
                device=index.device,
            )
        )
    return measurements


def _timed(
    index: VectorIndex, queries: np.ndarray, k: int, point: OperatingPoint
) -> tuple[Latency, Matches]:
    """Return the timings, and what the batch of all queries (q, d) found.

    At most the first 1000 queries are searched one by one, going round again where there are
    fewer than 100. The batch is searched until 0.2 s have passed or three times; its median counts.
    """

    def search(some: np.ndarray) -> tuple[float, Matches]:
        start = time.perf_counter()
        matches = index.search(some, k, nprobe=point.nprobe, ef_search=point.ef_search, enough=0)
        return time.perf_counter() - start, matches

    def search_one(i: int) -> float:
        at = i % len(queries)
        return search(queries[at : at + 1])[0]

    for i in range(_WARM_UP):
        search_one(i)
    count = min(_QUERIES_AT_MOST, max(len(queries), _QUERIES_FOR_P99))
    single = [search_one(i) for i in range(count)]
    batches: list[float] = []
    while sum(batches) < _BATCH_SECONDS and len(batches) < _BATCH_ROUNDS:
        seconds, matches = search(queries)
        batches.append(seconds)
    p50, p95, p99 = (float(p) for p in np.percentile(single, [50, 95, 99]) * 1000)
    rate = len(queries) / float(np.median(batches))
    return Latency(p50, p95, p99, rate, faiss.omp_get_max_threads(), count), matches


def _thinned(values: Sequence[int], own: int | None) -> list[int]:
    """Return at most 8 of the ascending values, the first and last and `own` among them."""
    others = [value for value in values if value != own]
    room = _POINTS_AT_MOST - (own is not None)
    chosen = np.linspace(0, len(others) - 1, min(room, len(others))).round().astype(int)
    return sorted({others[i] for i in chosen} | ({own} if own is not None else set()))
