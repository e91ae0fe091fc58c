from __future__ import annotations

import dataclasses
from typing import Any

import faiss
import numpy as np
import pytest

from indexes import measure
from indexes.build import build_index
from indexes.errors import VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.matches import Matches
from indexes.measure import (
    OperatingPoint,
    measure_index,
    operating_points,
)
from indexes.recall import ann_recall_at_k
from indexes.spec import IndexSpec

GAPS = np.arange(600, dtype=np.int64) * 3 + 5  # row numbers with deleted rows left out


# --- operating points -----------------------------------------------------------------------


def nprobes(spec: IndexSpec, vectors: np.ndarray) -> list[int | None]:
    points = operating_points(build_index(vectors, spec, device="cpu"))
    assert {point.ef_search for point in points} == {None}
    return [point.nprobe for point in points]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (IndexSpec("IVF16,Flat"), [1, 2, 4, 8, 16]),
        (IndexSpec("IVF16,Flat", nprobe=5), [1, 2, 4, 5, 8, 16]),
        (IndexSpec("IVF16,Flat", nprobe=8), [1, 2, 4, 8, 16]),
        (IndexSpec("IVF16,Flat", nprobe=99), [1, 2, 4, 8, 16]),  # all there are
        (IndexSpec("IVF1,Flat"), [1]),
        (IndexSpec("IVF10,Flat"), [1, 2, 4, 8, 10]),
        (IndexSpec("IVF512,Flat"), [1, 2, 8, 16, 32, 64, 256, 512]),  # 8 of 10 doublings
        (IndexSpec("IVF512,Flat", nprobe=8), [1, 2, 8, 16, 32, 64, 256, 512]),
        (IndexSpec("IVF512,Flat", nprobe=10), [1, 4, 8, 10, 16, 64, 256, 512]),
        (IndexSpec("IVF16_HNSW8,Flat", ef_search=20), [1, 2, 4, 8, 16]),
        (IndexSpec("L2norm,IVF16,Flat,RFlat"), [1, 2, 4, 8, 16]),
    ],
    ids=str,
)
def test_lists_to_probe(spec: IndexSpec, expected: list[int], corpus: np.ndarray) -> None:
    assert nprobes(spec, corpus) == expected


def test_row_numbers_do_not_hide_the_lists(corpus: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec("IVF4,Flat"), rows=GAPS, device="cpu")
    assert [point.nprobe for point in operating_points(index)] == [1, 2, 4]


def test_a_gpu_probes_no_more_than_it_can(
    corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "GPU_MAX_K", 6)
    index = build_index(corpus, IndexSpec("IVF16,Flat"), device="cpu")
    index._on_gpu = True  # as far as the points can tell
    assert [point.nprobe for point in operating_points(index)] == [1, 2, 4, 6]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (IndexSpec("HNSW8"), [16, 32, 64, 128, 256, 512]),
        (IndexSpec("HNSW8", ef_search=100), [16, 32, 64, 100, 128, 256, 512]),
        (IndexSpec("PCA16,HNSW8,RFlat", ef_search=64), [16, 32, 64, 128, 256, 512]),
    ],
    ids=str,
)
def test_candidates_of_a_graph(spec: IndexSpec, expected: list[int], corpus: np.ndarray) -> None:
    points = operating_points(build_index(corpus, spec, device="cpu"))
    assert points == [OperatingPoint(nprobe=None, ef_search=ef) for ef in expected]


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "NSG16", "SQ8,RFlat"])
def test_an_index_without_settings_has_one_point(factory: str, corpus: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec(factory), device="cpu")
    assert operating_points(index) == [OperatingPoint(nprobe=None, ef_search=None)]


# --- latency --------------------------------------------------------------------------------


class Clock:
    """Time that passes only in searches: the i-th takes i ms, or in a batch 0.5 ms per query."""

    def __init__(self) -> None:
        self.now = 0.0
        self.searches: list[tuple[bytes, int, int | None, int | None]] = []

    def search(
        self, queries: np.ndarray, k: int, *, nprobe: int | None, ef_search: int | None, enough: int
    ) -> Matches:
        assert enough == 0  # what nprobe alone finds
        self.searches.append((queries.tobytes(), k, nprobe, ef_search))
        q = len(queries)
        self.now += 0.001 * len(self.searches) if q == 1 else 0.0005 * q
        return Matches(np.zeros((q, k), np.float32), np.zeros((q, k), np.int64))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def timed(clock: Clock, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> VectorIndex:
    index = build_index(corpus, device="cpu")
    monkeypatch.setattr(index, "search", clock.search)
    return index


def test_percentiles_of_single_queries_and_the_rate_of_a_batch(
    timed: VectorIndex, clock: Clock, queries: np.ndarray
) -> None:
    """The i-th search by itself takes i ms: after 10 to warm up, 11 to 110 are timed."""
    latency, _ = measure._timed(timed, queries, 7, OperatingPoint(nprobe=3))
    assert (latency.p50, latency.p95, latency.p99) == pytest.approx((60.5, 105.05, 109.01))
    assert latency.queries_per_second == pytest.approx(2000)
    assert (latency.queries, latency.threads) == (100, faiss.omp_get_max_threads())
    one_by_one = [queries[i % 20].tobytes() for i in range(10)]
    one_by_one += [queries[i % 20].tobytes() for i in range(100)]
    batches = [queries.tobytes()] * 3  # 10 ms each: three rounds come before 0.2 s
    assert [search[0] for search in clock.searches] == one_by_one + batches
    assert {search[1:] for search in clock.searches} == {(7, 3, None)}


@pytest.mark.parametrize(("q", "singles", "batches"), [(20, 110, 3), (150, 160, 3), (1200, 1010, 1)])
def test_how_many_searches_are_timed(
    q: int, singles: int, batches: int, timed: VectorIndex, clock: Clock, unit_vectors: Any
) -> None:
    latency, _ = measure._timed(timed, unit_vectors(q), 1, OperatingPoint())
    lengths = [len(search[0]) // (4 * 32) for search in clock.searches]
    assert lengths == [1] * singles + [q] * batches
    assert latency.queries == singles - 10  # to warm up


# --- measuring an index ---------------------------------------------------------------------


def test_more_lists_find_more_and_all_lists_find_all(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    exact = exact_search(corpus, queries, 12)
    spec = IndexSpec("IVF16,Flat", nprobe=4)
    measured = measure_index(corpus, spec, queries, exact, 10, device="cpu")
    assert [(one.nprobe, one.ef_search) for one in measured] == [
        (nprobe, None) for nprobe in (1, 2, 4, 8, 16)
    ]
    index = build_index(corpus, spec, device="cpu")
    for one in measured:
        found = index.search(queries, 10, nprobe=one.nprobe).rows
        np.testing.assert_array_equal(one.rows, found)
        overlap = ann_recall_at_k(found, exact, 10)
        np.testing.assert_array_equal(one.ann_recall_per_query, overlap)
        assert one.ann_recall == pytest.approx(overlap.mean())
        np.testing.assert_array_equal(one.exhaustive_rows, exact.rows[:, :10])
        assert (one.factory, one.k, one.device) == ("IVF16,Flat", 10, "cpu")
        assert (one.n, one.dim) == (600, 32)
        assert one.bytes_per_vector == index.nbytes / 600
        assert one.build_seconds > 0
    recalls = [one.ann_recall for one in measured]
    assert recalls == sorted(recalls) and recalls[0] < 0.9
    assert recalls[-1] == 1.0


def test_equal_vectors_are_not_counted_as_lost(
    corpus: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each vector twice, and an index that prefers the other of the two at the last place."""
    vectors = np.concatenate([corpus[:300]] * 2)
    exact = exact_search(vectors, queries, 3)
    turned = np.where(np.arange(3) == 2, (exact.rows + 300) % 600, exact.rows)

    class PrefersTheOther(VectorIndex):
        def search(self, queries: Any, k: int, **settings: Any) -> Matches:
            return Matches(exact.scores[: len(queries)], turned[: len(queries)])

    index = PrefersTheOther(build_index(vectors, device="cpu").faiss_index, IndexSpec())
    monkeypatch.setattr(measure, "build_index", lambda *_, **__: index)
    (one,) = measure_index(vectors, IndexSpec(), queries, exact, 3)
    assert one.ann_recall == 1.0
    assert ann_recall_at_k(one.rows, exact, 3).tolist() == [2 / 3] * 20


def test_the_loss_of_the_codes_and_of_the_search_apart(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    exact = exact_search(corpus, queries, 10)
    measured = measure_index(corpus, IndexSpec("IVF16,PQ8"), queries, exact, 10, device="cpu")
    (one,) = (one for one in measured if one.nprobe == 2)
    through_codes = ann_recall_at_k(one.exhaustive_rows, exact, 10).mean()
    assert one.ann_recall < through_codes < 1


def test_measurements_are_frozen(corpus: np.ndarray, queries: np.ndarray) -> None:
    exact = exact_search(corpus, queries, 1)
    (one,) = measure_index(corpus, IndexSpec(), queries, exact, 1, device="cpu")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.k = 2  # type: ignore[misc]


def test_what_cannot_be_measured(corpus: np.ndarray, queries: np.ndarray) -> None:
    exact = exact_search(corpus, queries, 5)
    flat = IndexSpec()
    with pytest.raises(VectorIndexError, match="exact must hold .*k=6"):
        measure_index(corpus, flat, queries, exact, 6)
    with pytest.raises(VectorIndexError, match="each of 3 queries"):
        measure_index(corpus, flat, queries[:3], exact, 5)
    with pytest.raises(VectorIndexError, match="nothing to measure: 0 vectors, 20 queries"):
        measure_index(corpus[:0], flat, queries, exact, 5)
    with pytest.raises(VectorIndexError, match="nothing to measure: 600 vectors, 0 queries"):
        measure_index(corpus, flat, queries[:0], exact, 5)
