from __future__ import annotations

import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest

from indexes import training
from indexes.spec import IndexSpec
from indexes.training import least_to_train, train, training_sample


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read 100 rows at a time, so that 600 rows take six blocks."""
    monkeypatch.setattr(training, "_BLOCK_ROWS", 100)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shape of each sample that is drawn, of 20,000 vectors."""
    shapes: list[tuple[int, int]] = []

    def draw(vectors: Any, size: int, seed: int, chain: Any = None) -> np.ndarray:
        sample = training_sample(vectors, size, seed, chain)
        shapes.append(sample.shape)
        return sample

    monkeypatch.setattr(training, "training_sample", draw)
    return shapes


@pytest.mark.usefixtures("small_blocks")
def test_the_sample_is_drawn_over_all_blocks(corpus: np.ndarray) -> None:
    sample = training_sample(corpus, 60, seed=5)
    matches = (sample[:, None, :] == corpus[None]).all(axis=2)  # (60, 600)
    assert (matches.sum(axis=1) == 1).all()
    drawn = matches.argmax(axis=1)
    assert (np.diff(drawn) > 0).all()
    assert set(drawn // 100) == set(range(6))
    np.testing.assert_array_equal(training_sample(corpus, 60, seed=5), sample)


@pytest.mark.usefixtures("small_blocks")
def test_the_sample_is_held_once(unit_vectors: Any) -> None:
    vectors = unit_vectors(40_000)
    training_sample(vectors, 10, seed=0)  # what NumPy loads on first use
    tracemalloc.start()
    sample = training_sample(vectors, 30_000, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    drawing = 4 * 8 * 40_000  # which rows: their numbers, shuffled and in order
    assert sample.nbytes < peak < sample.nbytes + drawing


@pytest.mark.usefixtures("small_blocks")
def test_behind_a_projection_the_sample_is_what_comes_out_of_it(corpus: np.ndarray) -> None:
    pca = faiss.PCAMatrix(32, 8)
    pca.train(corpus)
    expected = pca.apply(training_sample(corpus, 60, seed=5))
    found = training_sample(corpus, 60, seed=5, chain=[faiss.NormalizationTransform(32), pca])
    assert found.shape == (60, 8)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("factory", "memory", "shapes"),
    [
        ("IVF16,Flat", None, [(20_000, 32)]),
        ("IVF16,Flat", 4 * 32 * 12_000, [(12_000, 32)]),
        ("IVF16,Flat", 1, [(4096, 32)]),
        ("IVF200,PQ8x4fs", 1, [(39 * 200, 32)]),
        ("PCA8,IVF200,PQ8x4fs", None, [(20_000, 32), (20_000, 8)]),
        ("PCA8,IVF200,PQ8x4fs", 2 * 4 * 32 * 5000, [(5000, 32), (20_000, 8)]),
        ("PCA8,IVF200,PQ8x4fs", 1, [(4096, 32), (39 * 200, 8)]),
        ("L2norm,IVF16,SQ8", 1, [(4096, 32)]),
        ("PCA8,IVF16,Flat,RFlat", 1, [(4096, 32)]),
    ],
)
def test_how_many_it_is_trained_on(
    factory: str, memory: int | None, shapes: list[Any], trained_on: list[Any], unit_vectors: Any
) -> None:
    index = IndexSpec(factory).empty_index(32)
    train(index, unit_vectors(20_000), least=least_to_train(index), seed=0, memory=memory)
    assert trained_on == shapes
    assert index.is_trained


@pytest.mark.parametrize("factory", ["PCA8,IVF16,Flat", "OPQ8_16,IVF16,PQ8x4fs", "L2norm,PCA8,SQ8"])
def test_it_learns_what_faiss_does(factory: str, corpus: np.ndarray) -> None:
    """The same parts, trained one by one, code the same vectors alike, but for the shift of PCA."""
    ours, theirs = (IndexSpec(factory).empty_index(32) for _ in range(2))
    train(ours, corpus, least=256, seed=0)
    training._prepare(theirs, 0)
    theirs.train(corpus)
    for i in range(ours.chain.size()):
        mine, other = (faiss.downcast_VectorTransform(one.chain.at(i)) for one in (ours, theirs))
        if hasattr(mine, "A"):
            np.testing.assert_array_equal(*(faiss.vector_to_array(one.A) for one in (mine, other)))
    assert isinstance(ours, faiss.IndexPreTransform) and ours.is_trained


def test_what_faiss_refuses_is_told_apart(unit_vectors: Any) -> None:
    with pytest.raises(training.FaissRefused):
        train(IndexSpec("PCA16,Flat").empty_index(8), unit_vectors(50, 8), least=1, seed=0)
