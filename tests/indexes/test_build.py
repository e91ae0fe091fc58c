from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from indexes import build, training
from indexes import vectors as vectors_module
from indexes.build import add_vectors, build_index
from indexes.errors import SpecError, VectorError, VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.layers import layers
from indexes.spec import IndexSpec


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read 100 rows at a time, so that 600 rows take six blocks."""
    whole = vectors_module.unit_blocks
    for room in (build, training):
        monkeypatch.setattr(room, "unit_blocks", lambda vectors, *_: whole(vectors, 100))


class OnlySlices:
    """Rows that can be had by range alone, as from a row of shards."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, part: slice) -> np.ndarray:
        assert isinstance(part, slice)
        return self.rows[part]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "SQ8"])
@pytest.mark.parametrize("rows", [None, np.arange(600) * 2 + 1], ids=["all rows", "rows left out"])
def test_blocks_make_the_same_index_as_one_array(
    factory: str, rows: np.ndarray | None, corpus: np.ndarray, queries: np.ndarray
) -> None:
    spec = IndexSpec(factory)
    in_blocks = build_index(OnlySlices(corpus), spec, rows=rows, device="cpu")
    index = spec.empty_index(32)
    for layer in layers(index):
        if isinstance(layer, faiss.IndexIVF):
            layer.cp.seed = 0
    if not index.is_trained:
        index.train(corpus)
    index.add(corpus)
    scores, positions = index.search(queries, 5)
    found = in_blocks.search(queries, 5)
    np.testing.assert_array_equal(found.rows, positions if rows is None else rows[positions])
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
def test_a_float16_memory_map_is_indexed_at_unit_length(corpus: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", corpus.astype(np.float16))
    stored = np.load(tmp_path / "v.npy", mmap_mode="r")
    index = build_index(stored, device="cpu")
    kept = index.faiss_index.reconstruct_n(0, 600)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, atol=2e-7)
    np.testing.assert_allclose(kept, corpus, atol=5e-4)


@pytest.mark.usefixtures("small_blocks")
def test_progress_is_told_after_every_block(corpus: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    build_index(corpus[:250], progress=lambda done, n: told.append((done, n)), device="cpu")
    assert told == [(100, 250), (200, 250), (250, 250)]


def test_the_default_numbering_needs_no_map(corpus: np.ndarray) -> None:
    for rows in (None, np.arange(600)):
        index = build_index(corpus, rows=rows, device="cpu")
        assert type(index.faiss_index) is faiss.IndexFlat
    index = build_index(corpus, rows=np.arange(1, 601), device="cpu")
    assert type(index.faiss_index) is faiss.IndexIDMap


def test_the_same_seed_trains_the_same_index(corpus: np.ndarray) -> None:
    def centroids(seed: int) -> np.ndarray:
        index = build_index(corpus, IndexSpec("IVF16,Flat", seed=seed), device="cpu")
        return index.faiss_index.quantizer.reconstruct_n(0, 16)

    np.testing.assert_array_equal(centroids(1), centroids(1))
    assert not np.allclose(centroids(1), centroids(2))


@pytest.mark.parametrize("factory", ["IVF16,PQ4", "PQ4", "OPQ4,PQ4", "RQ2x4", "IVF16,Flat"])
def test_faiss_is_kept_from_printing(
    factory: str, unit_vectors: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    build_index(unit_vectors(300, 8), IndexSpec(factory), device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("factory", ["PQ4", "IVF4,PQ4"])
def test_no_time_goes_into_polysemous_codes(factory: str, unit_vectors: Any) -> None:
    index = build_index(unit_vectors(300, 8), IndexSpec(factory), device="cpu")
    assert index.faiss_index.do_polysemous_training is False


@pytest.mark.parametrize(
    ("factory", "n", "needed"),
    [
        ("IVF16,Flat", 15, 16),
        ("IVF16,Flat", 0, 16),
        ("PQ4", 200, 256),
        ("IVF300,PQ4", 299, 300),
        ("OPQ4,Flat", 255, 256),
        ("SQ8", 0, 1),
    ],
)
def test_too_few_vectors_to_train(factory: str, n: int, needed: int, unit_vectors: Any) -> None:
    message = (
        rf'"{factory}" needs at least {needed} vectors to train, and there are {n}. Use "Flat"'
    )
    with pytest.raises(SpecError, match=message):
        build_index(unit_vectors(n, 8), IndexSpec(factory), device="cpu")


def test_just_enough_vectors_to_train(unit_vectors: Any) -> None:
    vectors = unit_vectors(16, 8)
    index = build_index(vectors, IndexSpec("IVF16,Flat"), device="cpu")
    assert index.search(vectors, 1).rows[:, 0].tolist() == list(range(16))


def test_an_empty_index_can_be_built() -> None:
    empty = np.zeros((0, 8), dtype=np.float32)
    for spec in (IndexSpec(), IndexSpec("SQfp16"), IndexSpec("HNSW8")):
        assert build_index(empty, spec, rows=np.zeros(0, np.int64), device="cpu").n == 0


def test_what_faiss_finds_out_only_while_training(unit_vectors: Any) -> None:
    with pytest.raises(
        SpecError, match='could not build "PCA16,Flat" over 50 vectors of 8'
    ) as caught:
        build_index(unit_vectors(50, 8), IndexSpec("PCA16,Flat"), device="cpu")
    assert ".cpp" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.arange(3, dtype=np.int32), r"rows must be int64 of shape \(3,\).* got int32"),
        (np.arange(4), r"got int64 of shape \(4,\)"),
        (np.array([[0, 1, 2]]), r"got int64 of shape \(1, 3\)"),
        (np.array([0, 2, 2]), "strictly increasing; position 2 holds 2"),
        (np.array([5, 4, 6]), "strictly increasing; position 1 holds 4"),
        (np.array([-1, 0, 1]), "non-negative and strictly increasing; position 0 holds -1"),
    ],
)
def test_unfit_rows_are_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        build_index(np.eye(3, dtype=np.float32), rows=rows, device="cpu")


def test_unfit_vectors_are_refused(corpus: np.ndarray) -> None:
    with pytest.raises(VectorError, match="vectors must be float32, got float64"):
        build_index(corpus.astype(np.float64), device="cpu")
    with pytest.raises(VectorError, match=r"must be an array of shape \(n, d\)"):
        build_index([[1.0, 0.0]], device="cpu")
    spoilt = corpus.copy()
    spoilt[417] *= 2
    with pytest.raises(VectorError, match="vectors row 417 has norm 2"):
        build_index(spoilt, device="cpu")


def test_a_bad_spec_is_refused_before_any_vector_is_read() -> None:
    class Unread:
        shape = (10, 4)

    with pytest.raises(SpecError, match='"Falt" is not a FAISS factory string'):
        build_index(Unread(), IndexSpec("Falt"), device="cpu")


def test_an_error_in_the_caller_s_progress_is_left_alone(corpus: np.ndarray) -> None:
    def stop(done: int, n: int) -> None:
        raise RuntimeError("stopped by the user")

    with pytest.raises(RuntimeError, match="stopped by the user"):
        build_index(corpus, progress=stop, device="cpu")


class TestGpuThatRunsOutOfMemory:
    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A Flat index that fails to add counts as one on a GPU."""

        class Full:
            is_trained = True

            def add(self, block: np.ndarray) -> None:
                raise RuntimeError("Error in GpuResources: cudaMalloc failed")

        monkeypatch.setattr(
            build, "to_device", lambda index, device: index if device == "cpu" else Full()
        )
        monkeypatch.setattr(build, "is_on_gpu", lambda index: isinstance(index, Full))

    def test_auto_builds_again_on_the_cpu(
        self, corpus: np.ndarray, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="indexes.build"):
            index = build_index(corpus, device="auto")
        assert index.search(corpus[7:8], 1).rows.tolist() == [[7]]
        assert caplog.messages == ["Building again on the CPU: the GPU could not build Flat."]

    def test_gpu_is_an_error(self, corpus: np.ndarray) -> None:
        with pytest.raises(VectorIndexError, match='The GPU could not build "Flat" over 600'):
            build_index(corpus, device="gpu")

    def test_several_gpus_get_what_the_cpu_built(
        self, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        monkeypatch.setattr(build, "gpus", lambda: [0, 1])
        monkeypatch.setattr(VectorIndex, "on", lambda index, device: (asked.append(device), index)[1])
        for device in ("gpu", "auto"):
            assert build_index(corpus, device=device).search(corpus[7:8], 1).rows.tolist() == [[7]]
        assert asked == ["gpu", "auto"]


def test_what_one_gpu_built_goes_to_all_by_way_of_the_cpu(
    corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(build, "to_device", lambda index, device: (asked.append((index.ntotal, device)), index)[1])
    monkeypatch.setattr(build, "is_on_gpu", lambda index: True)
    monkeypatch.setattr(build, "gpus", lambda: [0, 1])
    build_index(corpus, device="auto")
    assert asked == [(0, "auto"), (600, "cpu"), (600, "auto")]


def test_pca_keeps_inner_products_as_they_are(unit_vectors: Any) -> None:
    """FAISS's own PCA moves the mean to the origin, and so moves vectors along it up or down."""
    vectors = unit_vectors(300, 16, seed=4) + np.float32(0.5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = -vectors[:20]
    index = build_index(vectors, IndexSpec("PCA16,Flat"), device="cpu")
    found, truth = index.search(queries, 5), exact_search(vectors, queries, 5)
    np.testing.assert_array_equal(found.rows, truth.rows)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW16", "SQfp16", "PCA16,IVF4,Flat"])
@pytest.mark.parametrize("first", [np.arange(400), np.arange(400) * 2], ids=["all rows", "gaps"])
@pytest.mark.parametrize("step", [1, 3])
def test_vectors_are_added_behind_those_that_are_there(factory, first, step, corpus, queries):
    """As if all had been there from the start, but for what training with fewer changes."""
    index = build_index(corpus[:400], IndexSpec(factory, nprobe=8 if "IVF" in factory else None), rows=first, device="cpu")
    more = first[-1] + 1 + step * np.arange(200)
    index = add_vectors(index, corpus[400:], more)
    rows = np.concatenate([first, more])
    np.testing.assert_array_equal(index.rows, rows)
    found = index.search_exhaustively(corpus[[5, 399, 400, 599]], 1).rows[:, 0]
    np.testing.assert_array_equal(found, rows[[5, 399, 400, 599]])
    assert index.n == 600


def test_rows_that_are_there_cannot_be_added(corpus):
    index = build_index(corpus[:10], IndexSpec("Flat"), device="cpu")
    with pytest.raises(VectorError, match="row 9 cannot be added behind row 9"):
        add_vectors(index, corpus[10:12], np.array([9, 10]))
