from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest

from indexes import index as room
from indexes.build import build_index
from indexes.errors import DimensionError, SpecError, VectorError, VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.matches import Matches
from indexes.recall import ann_recall_at_k
from indexes.spec import IndexSpec


class Case(NamedTuple):
    spec: IndexSpec
    tolerance: float  # how far a score may be from the true inner product
    recall: float  # of the true 10 best, the share that must be found


CASES = [
    Case(IndexSpec("Flat"), 1e-5, 1.0),
    Case(IndexSpec("SQfp16"), 1e-3, 0.98),
    Case(IndexSpec("SQ8"), 0.02, 0.9),
    Case(IndexSpec("IVF16,Flat", nprobe=16), 1e-5, 1.0),
    Case(IndexSpec("IVF16_HNSW8,Flat", nprobe=16, ef_search=64), 1e-5, 1.0),
    Case(IndexSpec("HNSW32", ef_search=400), 1e-5, 1.0),
    Case(IndexSpec("CAGRA32", ef_search=400), 1e-5, 1.0),
    Case(IndexSpec("IVF16,SQfp16", nprobe=16), 1e-3, 0.98),
    Case(IndexSpec("SQ8,RFlat"), 1e-5, 0.9),
    Case(IndexSpec("IVF16,PQ16", nprobe=16), 0.2, 0.6),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.spec.factory)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def index(case: Case, rows: np.ndarray | None, corpus: np.ndarray) -> VectorIndex:
    return build_index(corpus, case.spec, rows=rows, device="cpu")


@pytest.fixture(scope="module")
def found(index: VectorIndex, queries: np.ndarray) -> Matches:
    return index.search(queries, 10)


@pytest.fixture(scope="module")
def positions(found: Matches, rows: np.ndarray | None) -> np.ndarray:
    """Where in the corpus each returned row is. (q, k)"""
    if rows is None:
        return found.rows
    assert np.isin(found.rows, rows).all()
    return np.searchsorted(rows, found.rows)


@pytest.fixture(scope="module")
def products(corpus: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return queries.astype(np.float64) @ corpus.T.astype(np.float64)  # (q, n)


# --- values, over every kind of index -------------------------------------------------------


def test_every_score_is_the_inner_product_of_its_row(
    case: Case, found: Matches, positions: np.ndarray, products: np.ndarray
) -> None:
    assert found.scores.dtype == np.float32 and found.rows.dtype == np.int64
    true = np.take_along_axis(products, positions, axis=1)
    np.testing.assert_allclose(found.scores, true, atol=case.tolerance)


def test_scores_descend_within_minus_one_and_one_and_rows_are_distinct(found: Matches) -> None:
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert found.scores.min() >= -1 and found.scores.max() <= 1
    assert all(len(set(line)) == 10 for line in found.rows.tolist())


def test_enough_of_the_true_best_are_found(
    case: Case, positions: np.ndarray, corpus: np.ndarray, queries: np.ndarray
) -> None:
    best = exact_search(corpus, queries, 10).rows
    shares = [
        len(set(a) & set(b)) / 10 for a, b in zip(positions.tolist(), best.tolist(), strict=True)
    ]
    assert np.mean(shares) >= case.recall
    if case.recall == 1:  # without a quantiser there is no excuse for another order either
        np.testing.assert_array_equal(positions, best)


def test_a_stored_vector_finds_itself(
    index: VectorIndex, case: Case, rows: np.ndarray | None, corpus: np.ndarray
) -> None:
    scores, found = index.search(corpus[40:60], 1)
    expected = np.arange(40, 60) if rows is None else rows[40:60]
    assert found[:, 0].tolist() == expected.tolist()
    np.testing.assert_allclose(scores[:, 0], 1, atol=case.tolerance)


def test_k_above_n_pads(index: VectorIndex, case: Case, queries: np.ndarray) -> None:
    scores, rows = index.search(queries[:2], 700)
    assert (rows[:, 600:] == -1).all()
    assert (scores[:, 600:] == -np.inf).all()
    assert np.array_equal(rows == -1, scores == -np.inf)
    assert (rows[:, :600] >= 0).all()


def test_properties(index: VectorIndex, case: Case) -> None:
    assert (index.n, index.dim, index.device) == (600, 32, "cpu")
    assert index.spec is case.spec
    assert repr(index) == f'VectorIndex("{case.spec.factory}", n=600, dim=32, cpu)'


def test_nbytes_is_the_length_of_what_faiss_writes(index: VectorIndex) -> None:
    assert index.nbytes == len(faiss.serialize_index(index.faiss_index))


# --- order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "SQfp16"])
def test_equal_scores_come_by_lower_row(factory: str) -> None:
    east, north = np.eye(2, dtype=np.float32)
    vectors = np.stack([north, east, north, east, east, north])
    rows = np.array([10, 20, 30, 40, 50, 60])
    index = build_index(vectors, IndexSpec(factory), rows=rows, device="cpu")
    scores, found = index.search(np.stack([east, north]), 6)
    assert found.tolist() == [[20, 40, 50, 10, 30, 60], [10, 30, 60, 20, 40, 50]]
    np.testing.assert_array_equal(scores, [[1, 1, 1, 0, 0, 0]] * 2)


# --- as many results as are asked for ---------------------------------------------------------


@pytest.fixture
def in_threes() -> VectorIndex:
    """4 directions, in the list of each its 3 rows, which have every other number; one list visited."""
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    rows = np.arange(12, dtype=np.int64) * 2
    return build_index(vectors, IndexSpec("IVF4,Flat", nprobe=1), rows=rows, device="cpu")


def test_a_short_list_of_an_ivf_index_is_completed(in_threes: VectorIndex) -> None:
    east = np.eye(4, dtype=np.float32)[1:2]
    scores, rows = in_threes.search(east, 14)
    assert rows.tolist() == [[6, 8, 10, 0, 2, 4, 12, 14, 16, 18, 20, 22, -1, -1]]
    assert scores.tolist() == [[1] * 3 + [0] * 9 + [-np.inf] * 2]


def test_a_query_may_be_content_with_fewer(in_threes: VectorIndex) -> None:
    east = np.eye(4, dtype=np.float32)[1:2]
    for allowed in (None, np.ones(24, bool)):
        for enough in (0, 3):
            scores, rows = in_threes.search(east, 5, enough=enough, allowed=allowed)
            assert rows.tolist() == [[6, 8, 10, -1, -1]]
            assert scores.tolist() == [[1, 1, 1, -np.inf, -np.inf]]
        for enough in (4, 99, None):
            scores, rows = in_threes.search(east, 5, enough=enough, allowed=allowed)
            assert rows[:, :3].tolist() == [[6, 8, 10]] and (rows[:, 3:] >= 0).all()
            assert scores.tolist() == [[1, 1, 1, 0, 0]]


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF64,PQ8x4fs", "PCA16,IVF64,SQ8,RFlat", "HNSW8"])
def test_where_the_lists_visited_hold_too_few_all_are_found(factory: str, unit_vectors: UnitVectors) -> None:
    vectors, queries = unit_vectors(3000, seed=1), unit_vectors(5, seed=2)
    index = build_index(vectors, IndexSpec(factory), device="cpu")
    rows = index.search(queries, 3000).rows
    np.testing.assert_array_equal(np.sort(rows), np.broadcast_to(np.arange(3000), (5, 3000)))


def test_only_queries_that_found_too_little_are_compared_with_everything(
    in_threes: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[float]] = []
    whole = room.scan
    monkeypatch.setattr(
        room, "scan", lambda index, some, k: (asked.append(some.tolist()), whole(index, some, k))[1]
    )
    in_threes.search(np.eye(4, dtype=np.float32), 3)
    assert asked == []
    uneven = build_index(
        np.eye(2, dtype=np.float32)[[0, 0, 0, 1]], IndexSpec("IVF2,Flat", nprobe=1), device="cpu"
    )
    assert uneven.search(np.eye(2, dtype=np.float32), 3).rows[0].tolist() == [0, 1, 2]
    assert asked == [[[0, 1]]]


def test_the_overshoot_of_a_quantiser_is_cut_off(corpus: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec("SQfp16"), device="cpu")
    raw, _ = index.faiss_index.search(corpus, 1)
    assert raw.max() > 1
    assert index.search(corpus, 1).scores.max() == 1


# --- search parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "factory", ["IVF16,Flat", "L2norm,IVF16,Flat", "IVF16,Flat,RFlat", "IVF16_HNSW8,Flat"]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_nprobe_reaches_the_lists_through_every_layer(
    factory: str, sparse: bool, corpus: np.ndarray, queries: np.ndarray
) -> None:
    rows = np.arange(600) * 2 if sparse else None
    index = build_index(corpus, IndexSpec(factory), rows=rows, device="cpu")
    oracle = exact_search(corpus, queries, 10).rows * (2 if sparse else 1)
    assert not np.array_equal(index.search(queries, 10).rows, oracle)  # FAISS's own nprobe, 1
    np.testing.assert_array_equal(index.search(queries, 10, nprobe=16).rows, oracle)
    assert not np.array_equal(index.search(queries, 10).rows, oracle)  # it did not stick


def test_nprobe_above_the_number_of_lists_visits_all(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat"), device="cpu")
    oracle = exact_search(corpus, queries, 10)
    np.testing.assert_array_equal(index.search(queries, 10, nprobe=999).rows, oracle.rows)


@pytest.mark.parametrize("ef_search", [None, 16])
@pytest.mark.parametrize("factory", ["HNSW32", "L2norm,HNSW32", "HNSW32,RFlat", "CAGRA32"])
def test_a_graph_keeps_as_many_candidates_as_there_are_results(
    factory: str, ef_search: int | None, unit_vectors: UnitVectors
) -> None:
    vectors, queries = unit_vectors(3000, seed=1), unit_vectors(20, seed=2)
    index = build_index(vectors, IndexSpec(factory, ef_search=ef_search), device="cpu")
    found, truth = index.search(queries, 500), exact_search(vectors, queries, 500)
    assert (found.rows >= 0).all()
    assert ann_recall_at_k(found.rows, truth, 500).mean() > 0.98


@pytest.mark.parametrize("factory", ["HNSW4", "L2norm,HNSW4", "HNSW4,RFlat"])
def test_ef_search_reaches_the_graph_through_every_layer(
    factory: str, corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec(factory, ef_search=1), device="cpu")
    oracle = exact_search(corpus, queries, 3).rows

    def hits(matches: Matches) -> int:
        return sum(
            len(set(a) & set(b))
            for a, b in zip(matches.rows.tolist(), oracle.tolist(), strict=True)
        )

    assert hits(index.search(queries, 3)) < hits(index.search(queries, 3, ef_search=600))


def test_the_spec_s_nprobe_is_used_unless_a_search_names_another(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat", nprobe=16), device="cpu")
    oracle = exact_search(corpus, queries, 10).rows
    np.testing.assert_array_equal(index.search(queries, 10).rows, oracle)
    assert not np.array_equal(index.search(queries, 10, nprobe=1).rows, oracle)


def test_searches_in_threads_do_not_disturb_each_other(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat"), device="cpu")
    probes = [1, 2, 4, 16] * 10
    alone = {nprobe: index.search(queries, 10, nprobe=nprobe).rows for nprobe in set(probes)}
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda nprobe: index.search(queries, 10, nprobe=nprobe), probes))
    for nprobe, matches in zip(probes, together, strict=True):
        np.testing.assert_array_equal(matches.rows, alone[nprobe])


# --- what is refused ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat(corpus: np.ndarray) -> VectorIndex:
    return build_index(corpus, device="cpu")


def test_another_dimension_names_both(flat: VectorIndex) -> None:
    with pytest.raises(DimensionError, match="queries are 4-d, the index is 32-d"):
        flat.search(np.eye(4, dtype=np.float32), 1)


@pytest.mark.parametrize("k", [0, -5, 1.0, None])
def test_k_below_one(flat: VectorIndex, queries: np.ndarray, k: Any) -> None:
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1, got"):
        flat.search(queries, k)


def test_unfit_queries(flat: VectorIndex, queries: np.ndarray) -> None:
    with pytest.raises(VectorError, match="queries must be float32, got float64"):
        flat.search(queries.astype(np.float64), 1)
    with pytest.raises(VectorError, match=r"Pass one vector as shape \(1, d\)"):
        flat.search(queries[0], 1)
    with pytest.raises(VectorError, match="queries row 0 has norm 3"):
        flat.search(queries * np.float32(3), 1)


def test_search_parameters_that_mean_nothing(flat: VectorIndex, queries: np.ndarray) -> None:
    with pytest.raises(SpecError, match='nprobe means nothing to "Flat"'):
        flat.search(queries, 1, nprobe=4)
    with pytest.raises(SpecError, match='ef_search means nothing to "Flat"'):
        flat.search(queries, 1, ef_search=4)
    with pytest.raises(SpecError, match="nprobe must be a whole number of at least 1, got 0"):
        flat.search(queries, 1, nprobe=0)


def test_the_limits_of_a_gpu(unit_vectors: Any, queries: np.ndarray) -> None:
    index = build_index(unit_vectors(2100), device="cpu")
    index._on_gpu = True  # as far as the check can tell
    with pytest.raises(VectorIndexError, match="up to 2048, got k=2100.*device cpu"):
        index.search(queries, 2100)


def test_an_empty_index_has_nothing_to_say(queries: np.ndarray) -> None:
    index = build_index(np.zeros((0, 32), dtype=np.float32), device="cpu")
    scores, rows = index.search(queries[:2], 3)
    assert index.n == 0
    assert rows.tolist() == [[-1] * 3] * 2 and scores.tolist() == [[-np.inf] * 3] * 2
    with pytest.raises(DimensionError):
        index.search(np.eye(4, dtype=np.float32), 1)


def test_no_queries_give_no_lines(flat: VectorIndex, queries: np.ndarray) -> None:
    assert flat.search(queries[:0], 3).rows.shape == (0, 3)
