from __future__ import annotations

import faiss
import numpy as np
import pytest

from indexes import scan as scan_module
from indexes.build import build_index
from indexes.errors import DimensionError, VectorError, VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.layers import layers
from indexes.spec import IndexSpec

FACTORIES = [
    "Flat",
    "SQfp16",
    "SQ8",
    "PQ8",
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF16,PQ8",
    "IVF16_HNSW8,Flat",
    "IVF16(IVF4,Flat),Flat",
    "HNSW32",
    "HNSW32,SQ8",
    "NSG16",
    "SQ8,RFlat",
    "IVF16,PQ8,RFlat",
    "IVF16,PQ8,Refine(SQ8)",
    "PQ8,Refine(HNSW8)",
    "PCA16,Flat",
    "PCA16,HNSW8",
    "OPQ8,PQ8",
    "OPQ8,IVF16,PQ8",
]
LOSSLESS = [
    "Flat",
    "IVF16,Flat",
    "IVF16_HNSW8,Flat",
    "HNSW32",
    "NSG16",
    "IVF16,PQ8,RFlat",
    "PQ8,Refine(HNSW8)",
]


@pytest.fixture(scope="module", params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def index(factory: str, rows: np.ndarray | None, corpus: np.ndarray) -> VectorIndex:
    return build_index(corpus, IndexSpec(factory), rows=rows, device="cpu")


def products_of_codes(index: VectorIndex, queries: np.ndarray) -> np.ndarray:
    """Scores of the vectors as stored, those an index refines with if any. (q, n)"""
    *outer, stored = layers(index.faiss_index)
    for layer in outer:
        if isinstance(layer, faiss.IndexRefine):
            stored = faiss.downcast_index(layer.refine_index)
            break
        if isinstance(layer, faiss.IndexPreTransform):
            queries = faiss.downcast_VectorTransform(layer.chain.at(0)).apply(queries)
    return queries.astype(np.float64) @ stored.reconstruct_n(0, index.n).T.astype(np.float64)


# --- values, over every kind of index -------------------------------------------------------


def test_everything_is_ranked_as_stored(
    index: VectorIndex, rows: np.ndarray | None, queries: np.ndarray
) -> None:
    products = products_of_codes(index, queries)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :10]
    scores, found = index.search_exhaustively(queries, 10)
    np.testing.assert_array_equal(found, expected if rows is None else rows[expected])
    true = np.clip(np.take_along_axis(products, expected, axis=1), -1, 1)
    np.testing.assert_allclose(scores, true, atol=1e-6)
    assert scores.dtype == np.float32 and found.dtype == np.int64


def test_every_row_is_found_and_the_rest_is_pads(
    index: VectorIndex, rows: np.ndarray | None, queries: np.ndarray
) -> None:
    scores, found = index.search_exhaustively(queries[:2], 603)
    everything = np.arange(600) if rows is None else rows
    np.testing.assert_array_equal(np.sort(found[:, :600]), [everything] * 2)
    assert found[:, 600:].tolist() == [[-1] * 3] * 2
    assert scores[:, 600:].tolist() == [[-np.inf] * 3] * 2
    assert (np.diff(scores[:, :600], axis=1) <= 0).all()


@pytest.mark.parametrize("factory", LOSSLESS)
def test_without_a_quantiser_nothing_is_lost(
    factory: str, corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec(factory, nprobe=None), device="cpu")
    exact = exact_search(corpus, queries, 10)
    scores, found = index.search_exhaustively(queries, 10)
    np.testing.assert_array_equal(found, exact.rows)
    np.testing.assert_allclose(scores, exact.scores, atol=1e-6)


@pytest.mark.parametrize("factory", ["PQ8x4fs", "IVF16,PQ8x4fs", "IVF16,RaBitQ"])
def test_codes_with_scores_of_their_own_score_as_in_a_full_search(
    factory: str, corpus: np.ndarray, queries: np.ndarray
) -> None:
    """What these scan is no plain product with what they give back."""
    index = build_index(corpus, IndexSpec(factory), device="cpu")
    full = index.search(queries, 10, nprobe=16 if "IVF" in factory else None)
    scores, found = index.search_exhaustively(queries, 10)
    np.testing.assert_array_equal(found, full.rows)
    np.testing.assert_allclose(scores, full.scores, atol=1e-6)


# --- shortcuts that are not taken -----------------------------------------------------------


def cut_all_links(graph: faiss.IndexHNSW) -> None:
    links = faiss.vector_to_array(graph.hnsw.neighbors)
    faiss.copy_array_to_vector(np.full_like(links, -1), graph.hnsw.neighbors)


def test_lists_that_no_graph_leads_to_are_visited(corpus: np.ndarray, queries: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec("IVF16_HNSW8,Flat"), device="cpu")
    exact = exact_search(corpus, queries, 10).rows
    cut_all_links(faiss.downcast_index(index.faiss_index.quantizer))
    assert not np.array_equal(index.search(queries, 10, nprobe=16, ef_search=16).rows, exact)
    np.testing.assert_array_equal(index.search_exhaustively(queries, 10).rows, exact)


def test_vectors_that_no_link_leads_to_are_visited(
    corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec("HNSW8"), device="cpu")
    exact = exact_search(corpus, queries, 10).rows
    cut_all_links(index.faiss_index)
    assert not np.array_equal(index.search(queries, 10, ef_search=600, enough=0).rows, exact)
    np.testing.assert_array_equal(index.search_exhaustively(queries, 10).rows, exact)


def test_queries_in_blocks_give_the_same(
    corpus: np.ndarray, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(corpus, IndexSpec("IVF16,SQ8"), device="cpu")
    whole = index.search_exhaustively(queries, 10)
    monkeypatch.setattr(scan_module, "_LISTS_IN_MEMORY", 50)  # three queries at a time
    in_blocks = index.search_exhaustively(queries, 10)
    np.testing.assert_array_equal(in_blocks.rows, whole.rows)
    np.testing.assert_array_equal(in_blocks.scores, whole.scores)


def test_the_index_searches_on_as_before(corpus: np.ndarray, queries: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat", nprobe=2), device="cpu")
    before = index.search(queries, 10)
    index.search_exhaustively(queries, 10)
    np.testing.assert_array_equal(index.search(queries, 10).rows, before.rows)


# --- order, and what is refused -------------------------------------------------------------


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "SQfp16"])
def test_equal_scores_come_by_lower_row(factory: str) -> None:
    east, north = np.eye(2, dtype=np.float32)
    vectors = np.stack([north, east, north, east, east, north])
    rows = np.array([10, 20, 30, 40, 50, 60])
    index = build_index(vectors, IndexSpec(factory), rows=rows, device="cpu")
    scores, found = index.search_exhaustively(np.stack([east, north]), 6)
    assert found.tolist() == [[20, 40, 50, 10, 30, 60], [10, 30, 60, 20, 40, 50]]
    np.testing.assert_array_equal(scores, [[1, 1, 1, 0, 0, 0]] * 2)


def test_nothing_to_search_is_all_pads(corpus: np.ndarray, queries: np.ndarray) -> None:
    empty = build_index(corpus[:0], device="cpu").search_exhaustively(queries[:2], 3)
    assert empty.rows.tolist() == [[-1] * 3] * 2 and empty.scores.tolist() == [[-np.inf] * 3] * 2
    unasked = build_index(corpus, device="cpu").search_exhaustively(queries[:0], 3)
    assert unasked.rows.shape == (0, 3)


def test_unfit_queries_and_k_are_refused(corpus: np.ndarray, queries: np.ndarray) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat"), device="cpu")
    with pytest.raises(DimensionError, match="queries are 4-d, the index is 32-d"):
        index.search_exhaustively(np.eye(4, dtype=np.float32), 1)
    with pytest.raises(VectorError, match="queries must be float32, got float64"):
        index.search_exhaustively(queries.astype(np.float64), 1)
    with pytest.raises(VectorIndexError, match="k must be a whole number of at least 1, got 0"):
        index.search_exhaustively(queries, 0)
