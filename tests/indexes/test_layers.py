from __future__ import annotations

import gc
import weakref

import faiss
import numpy as np
import pytest

from indexes.layers import has_graph, is_on_gpu, layers, numbered, takes_ef_search, takes_nprobe


def empty(factory: str) -> faiss.Index:
    return faiss.index_factory(64, factory, faiss.METRIC_INNER_PRODUCT)


def test_layers_come_outermost_first_with_their_real_types() -> None:
    index = faiss.IndexIDMap(empty("OPQ8,IVF16,PQ8,RFlat"))
    assert [type(layer).__name__ for layer in layers(index)] == [
        "IndexIDMap",
        "IndexRefineFlat",
        "IndexPreTransform",
        "IndexIVFPQ",
    ]


@pytest.mark.parametrize(
    ("factory", "nprobe", "ef_search"),
    [
        ("Flat", False, False),
        ("PCA32,SQ8", False, False),
        ("NSG16", False, False),
        ("IVF16,Flat", True, False),
        ("OPQ8,IVF16,PQ8,RFlat", True, False),
        ("HNSW32", False, True),
        ("PCA32,HNSW32_SQ8", False, True),
        ("IVF16_HNSW8,Flat", True, True),
    ],
)
def test_which_search_parameters_apply(factory: str, nprobe: bool, ef_search: bool) -> None:
    assert takes_nprobe(empty(factory)) is nprobe
    assert takes_ef_search(empty(factory)) is ef_search


def test_an_index_starts_on_the_cpu() -> None:
    assert not is_on_gpu(faiss.IndexIDMap(empty("IVF16,Flat")))


@pytest.mark.parametrize(
    ("factory", "expected"),
    [("HNSW32", True), ("HNSW32_SQ8", True), ("NSG16", True), ("Flat", False), ("SQ8", False)],
)
def test_which_layers_are_graphs(factory: str, expected: bool) -> None:
    index = empty(factory)
    assert has_graph(next(layers(index))) is expected


def test_row_numbers_for_an_index_that_holds_vectors() -> None:
    """It lives as long as either is used, and is freed once: by Python, which alone owns it."""
    vectors = np.eye(3, 64, dtype=np.float32)
    inner = empty("Flat")
    inner.add(vectors)
    mapped = numbered(inner, np.array([5, 7, 9]))
    assert inner.thisown and not mapped.own_fields
    gone = weakref.ref(inner)
    del inner
    assert mapped.search(vectors, 1)[1].tolist() == [[5], [7], [9]]
    inner = gone()
    del mapped
    assert inner.search(vectors, 1)[1].tolist() == [[0], [1], [2]]
    del inner
    gc.collect()
    assert gone() is None


def test_what_another_owns_stays_its_own() -> None:
    owner = faiss.IndexIDMap(empty("Flat"))
    borrowed = faiss.downcast_index(owner.index)
    numbered(borrowed, np.zeros(0, np.int64))
    assert not borrowed.thisown
