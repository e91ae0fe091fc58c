from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from indexes.build import build_index
from indexes.errors import SpecError
from indexes.exact import exact_search
from indexes.flat import FlatIndex
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec
from indexes.suggest import _training_bytes, coded
from indexes.training import least_training_bytes

MANY = 5_000_000


def test_exact_search_while_it_is_fast() -> None:
    """16 MB a millisecond: 50 ms are 781,250 rows of 512 halves."""
    for n in (0, 1, 781_250):
        suggestion = IndexSpec.suggest(n, 512)
        assert (suggestion.spec, suggestion.nbytes) == (IndexSpec("Flat"), 0)
    assert "takes about 50 ms" in suggestion.reasons[0]
    assert IndexSpec.suggest(781_251, 512).spec.factory != "Flat"
    assert IndexSpec.suggest(781_251, 128).spec.factory == "Flat"


def test_nothing_but_exact_search_misses_nothing() -> None:
    assert IndexSpec.suggest(MANY, 512, target_recall=1).spec == IndexSpec("Flat")


def test_a_million() -> None:
    suggestion = IndexSpec.suggest(1_000_000, 512)
    assert suggestion.spec == IndexSpec("PCA64,IVF4096,PQ64x4fsr", nprobe=32, refine=4)
    # Codes and row numbers, half a block of 32 a list, 4096 centroids, and the projection.
    assert suggestion.nbytes == 40_000_000 + 16 * 32 * 4096 + 4 * 64 * 4096 + 4 * 64 * 512
    assert suggestion.reasons == (
        "Comparing a query with all 1,000,000 vectors would take about 64 ms.",
        "The vectors lie in 4,096 lists of about 244, of which a search visits 32 at first; tune it "
        "with queries of your own.",
        "There it reads codes of 32 bytes a vector of the 64 strongest of 512 dimensions.",
        "For each result it compares 4 candidates anew with the stored vectors themselves, so that "
        "scores are exact.",
        "The index takes about 43.3 MB beside the stored vectors.",
    )


@pytest.mark.parametrize(
    ("n", "dim", "factory"),
    [
        (MANY, 96, "PCA64,IVF8192,PQ64x4fsr"),
        (MANY * 4, 64, "IVF16384_HNSW32,PQ64x4fsr"),
        (MANY * 10, 30, "IVF32768_HNSW32,PQ30x4fsr"),
        (MANY, 768, "PCA96,IVF8192,PQ96x4fsr"),
        (MANY, 1152, "PCA144,IVF8192,PQ144x4fsr"),
        (100_000, 4999, "PCA624,IVF1024,PQ624x4fsr"),
    ],
)
def test_lists_and_codes_follow_size_and_dimensions(n: int, dim: int, factory: str) -> None:
    spec = IndexSpec.suggest(n, dim).spec
    assert spec.factory == factory
    spec.validate(dim)


def test_more_recall_takes_more_work() -> None:
    specs = [IndexSpec.suggest(MANY, 512, target_recall=r).spec for r in (0.5, 0.95, 0.99, 0.999)]
    assert [spec.nprobe for spec in specs] == [16, 32, 96, 256]
    assert [spec.refine for spec in specs] == [3, 4, 8, 16]
    assert len({spec.factory for spec in specs}) == 1


def test_less_memory_means_smaller_codes_and_more_to_compare_anew() -> None:
    whole, half, quarter = (IndexSpec.suggest(MANY, 512, memory=memory)
                            for memory in (210_000_000, 200_000_000, 100_000_000))  # fmt: skip
    factories = [one.spec.factory for one in (whole, half, quarter)]
    assert factories == [f"PCA64,IVF8192,PQ{parts}x4fsr" for parts in (64, 32, 16)]
    assert [one.spec.refine for one in (whole, half, quarter)] == [4, 8, 16]
    assert whole.nbytes > 200_000_000 >= half.nbytes > 100_000_000 >= quarter.nbytes


def test_too_little_memory_says_how_much_it_takes() -> None:
    least = IndexSpec.suggest(MANY, 512, memory=100_000_000).nbytes
    assert IndexSpec.suggest(MANY, 512, memory=least).nbytes == least
    with pytest.raises(SpecError, match="10.0 MB is too little for an index of 5,000,000 vectors: the "
                                        "smallest takes 83.3 MB. .* about 320 ms a query"):  # fmt: skip
        IndexSpec.suggest(MANY, 512, memory=10_000_000)
    assert IndexSpec.suggest(1000, 512, memory=1).spec == IndexSpec("Flat")


def test_the_sample_to_train_on_counts_where_it_is_larger_than_the_index() -> None:
    """39 vectors for each of 4096 lists, 64 floats each; the codes, with half as many parts, take 26 MB."""
    sample = 39 * 4096 * 64 * 4
    found = IndexSpec.suggest(1_000_000, 512, memory=sample)
    assert found.spec.factory == "PCA64,IVF4096,PQ32x4fsr" and found.nbytes < sample
    with pytest.raises(SpecError, match="40.9 MB is too little .* the smallest takes 40.9 MB"):
        IndexSpec.suggest(1_000_000, 512, memory=sample - 1)


@pytest.mark.parametrize(("n", "dim"), [(1_000_000, 512), (MANY, 512), (MANY, 64), (1_000, 768)])
def test_what_it_allows_for_training_is_what_that_takes(n: int, dim: int) -> None:
    index = IndexSpec(coded(n, dim).factory).empty_index(dim)
    assert _training_bytes(n, dim) == least_training_bytes(index, n)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"memory": 0}, "memory must be a whole number of at least 1, got 0"),
        ({"memory": 1.5}, "memory must be a whole number"),
        ({"target_recall": 0}, "target_recall must be above 0 and at most 1, got 0"),
        ({"target_recall": 1.01}, "target_recall must be above 0 and at most 1, got 1.01"),
        ({"target_recall": float("nan")}, "target_recall must be above 0 and at most 1, got nan"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        IndexSpec.suggest(**({"n": MANY, "dim": 512} | arguments))


SUGGESTED = [
    (dim, IndexSpec.suggest(n, dim, memory=memory).spec.factory)
    for n, dim, memory in (
        (MANY, 512, None), (MANY, 512, 200_000_000), (MANY, 512, 100_000_000), (MANY * 4, 96, None),
        (MANY * 10, 30, None), (MANY * 10, 30, 1_300_000_000),
    )
]  # fmt: skip


@pytest.mark.parametrize(("dim", "factory"), SUGGESTED)
def test_whatever_is_suggested_agrees_with_exact_search(
    dim: int, factory: str, unit_vectors: Any
) -> None:
    """With a few lists, as there are few vectors; all of them visited, and every vector refined."""
    halves = unit_vectors(700, dim, seed=8).astype(np.float16)
    halves[350:] = halves[:350]  # so that every score is there twice
    queries = unit_vectors(9, dim, seed=9)
    spec = IndexSpec(re.sub(r"IVF\d+", "IVF8", factory), nprobe=8, refine=70)
    found = RefinedIndex(build_index(halves, spec, device="cpu"), halves).search(queries, 10)
    truth = FlatIndex(halves).search(queries, 10)
    np.testing.assert_array_equal(found.rows, truth.rows)
    np.testing.assert_array_equal(found.scores, truth.scores)
    np.testing.assert_allclose(found.scores, exact_search(halves, queries, 10).scores, atol=1e-6)
    assert (found.rows[:, 1::2] == found.rows[:, ::2] + 350).all()  # equal scores by lower row
    assert (np.diff(found.scores, axis=1) <= 0).all() and (np.abs(found.scores) <= 1).all()


def test_what_is_suggested_for_many_can_be_built_for_few(unit_vectors: Any) -> None:
    assert coded(700, 32).factory == "IVF128,PQ32x4fsr"
    spec = IndexSpec(coded(700, 32).factory, refine=4, nprobe=16)
    halves = unit_vectors(700, 32).astype(np.float16)
    queries = halves[:50].astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = RefinedIndex(build_index(halves, spec, device="cpu"), halves).search(queries, 1)
    assert found.rows[:, 0].tolist() == list(range(50))
