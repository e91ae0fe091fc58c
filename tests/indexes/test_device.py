from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import faiss
import numpy as np
import pytest

from indexes import build, device, spread
from indexes.build import build_index
from indexes.device import cap_threads, gpu_count, to_device, usable_cpus
from indexes.errors import VectorIndexError
from indexes.exact import exact_search
from indexes.layers import is_on_gpu, parts
from indexes.persist import load_index, save_index
from indexes.spec import IndexSpec

needs_gpu = pytest.mark.skipif(gpu_count() == 0, reason="FAISS sees no GPU on this machine")


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)


def out_of_memory(*_: object) -> faiss.Index:
    raise RuntimeError("Error in GpuResources: cudaMalloc failed")


@pytest.fixture
def flat() -> faiss.Index:
    return IndexSpec().empty_index(4)


@pytest.mark.usefixtures("threads_restored")
def test_cap_threads_sets_what_faiss_uses() -> None:
    assert cap_threads(3) == 3
    assert faiss.omp_get_max_threads() == 3


@pytest.mark.usefixtures("threads_restored")
def test_cap_threads_defaults_to_the_cpus_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 6}, raising=False)
    assert cap_threads() == 3
    assert faiss.omp_get_max_threads() == 3


def test_usable_cpus_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cpus() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


def test_cap_threads_refuses_none_at_all() -> None:
    with pytest.raises(VectorIndexError, match="The number of threads must be"):
        cap_threads(0)


def test_gpu_count_of_a_build_without_gpu_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "get_num_gpus", raising=False)
    assert gpu_count() == 0


def test_gpu_count_where_the_driver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise RuntimeError("CUDA error 35")

    monkeypatch.setattr(faiss, "get_num_gpus", fails, raising=False)
    assert gpu_count() == 0


def test_an_unknown_device_is_refused(flat: faiss.Index) -> None:
    with pytest.raises(VectorIndexError, match='one of auto, cpu, gpu, got "cuda:1"'):
        to_device(flat, "cuda:1")


def test_cpu_is_the_index_itself(flat: faiss.Index) -> None:
    assert to_device(flat, "cpu") is flat


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_says_so_in_one_line(
    flat: faiss.Index, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="indexes.device"):
        assert to_device(flat, "auto") is flat
    assert caplog.messages == ["The index stays on the CPU: FAISS sees no GPU on this machine."]
    assert caplog.records[0].levelno == logging.DEBUG  # nothing to tell at every search


@pytest.mark.usefixtures("no_gpu")
def test_gpu_without_a_gpu_is_an_error(flat: faiss.Index) -> None:
    with pytest.raises(VectorIndexError, match="FAISS sees no GPU on this machine. Use device cpu"):
        to_device(flat, "gpu")


@pytest.mark.parametrize("factory", ["HNSW32", "SQfp16", "SQ8,RFlat", "IVF16,RaBitQ", "IVF16,RaBitQfs"])
def test_a_type_without_a_gpu_version_stays(
    factory: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "gpu_count", lambda: 1)
    index = IndexSpec(factory).empty_index(4)
    with caplog.at_level(logging.INFO, logger="indexes.device"):
        assert to_device(index, "auto") is index
    [message] = caplog.messages
    assert message.startswith("The index stays on the CPU: FAISS has no GPU version of Index")
    with pytest.raises(VectorIndexError, match="device gpu was asked for, but FAISS has no GPU"):
        to_device(index, "gpu")


def test_a_gpu_that_refuses_leaves_the_index_on_the_cpu(
    flat: faiss.Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "gpu_count", lambda: 1)
    monkeypatch.setattr(device, "spread", out_of_memory)
    with caplog.at_level(logging.INFO, logger="indexes.device"):
        assert to_device(flat, "auto") is flat
    assert caplog.messages == [
        "The index stays on the CPU: the GPU did not take the index, "
        "most likely for lack of memory."
    ]
    with pytest.raises(VectorIndexError, match="the GPU did not take the index"):
        to_device(flat, "gpu")


@needs_gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQfp16", "PCA32,IVF16,Flat"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_gpu_index_agrees_with_the_cpu_one_and_can_be_saved(
    factory: str, sparse: bool, corpus: np.ndarray, queries: np.ndarray, tmp_path: os.PathLike[str]
) -> None:
    spec = IndexSpec(factory, nprobe=16 if "IVF" in factory else None)
    rows = np.arange(len(corpus)) * 3 if sparse else None
    index = build_index(corpus, spec, rows=rows, device="gpu")
    assert index.device == "gpu" and is_on_gpu(index.faiss_index)
    found = index.search(queries, 5)
    save_index(index, os.path.join(tmp_path, "i.faiss"))
    on_cpu = load_index(os.path.join(tmp_path, "i.faiss"), spec, device="cpu")
    assert on_cpu.device == "cpu"
    again = on_cpu.search(queries, 5)
    np.testing.assert_array_equal(again.rows, found.rows)
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-3)
    truth = exact_search(corpus, queries, 5)
    if not factory.startswith("PCA"):
        np.testing.assert_allclose(found.scores, truth.scores, atol=1e-3)
        np.testing.assert_array_equal(found.rows, truth.rows * (3 if sparse else 1))


@needs_gpu
def test_a_gpu_searches_up_to_its_limit_of_k(unit_vectors: object) -> None:
    vectors = unit_vectors(3000, 8)  # type: ignore[operator]
    index = build_index(vectors, device="gpu")
    assert index.search(vectors[:1], 2048).rows[0, 0] == 0
    with pytest.raises(VectorIndexError, match="up to 2048, got k=2049"):
        index.search(vectors[:1], 2049)


@needs_gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQfp16", "PCA32,IVF16,Flat"])
@pytest.mark.parametrize("room_for_all", [True, False])
def test_an_index_on_several_gpus_agrees_with_exact_search(
    factory: str, room_for_all: bool, monkeypatch: pytest.MonkeyPatch, corpus: np.ndarray,
    queries: np.ndarray, rows: np.ndarray | None, tmp_path: os.PathLike[str],
) -> None:
    monkeypatch.setattr(device, "gpus", lambda: [0, 0, 0])  # one GPU stands for three
    monkeypatch.setattr(build, "gpus", device.gpus)
    if not room_for_all:
        monkeypatch.setattr(spread, "_replicated", out_of_memory)
    spec = IndexSpec(factory, nprobe=16 if "IVF" in factory else None)
    index = build_index(corpus, spec, rows=rows, device="gpu")
    assert index.device == "gpu"
    assert [part.ntotal for part in parts(index.faiss_index)] == [600 if room_for_all else 200] * 3
    truth = exact_search(corpus, queries, 5)
    numbers = np.arange(600) if rows is None else rows
    save_index(index, os.path.join(tmp_path, "i.faiss"))
    on_cpu = load_index(os.path.join(tmp_path, "i.faiss"), spec, device="cpu")
    for searched in (index, on_cpu, on_cpu.on("gpu")):
        found = searched.search(queries, 5)
        np.testing.assert_array_equal(found.rows, numbers[truth.rows])
        np.testing.assert_allclose(found.scores, truth.scores, atol=1e-3)
        np.testing.assert_array_equal(searched.search(queries[:1], 5).rows, found.rows[:1])
    allowed = np.zeros(numbers[-1] + 1, bool)
    allowed[numbers[100:300]] = True
    among = exact_search(corpus[100:300], queries, 5)
    found = index.search(queries, 5, allowed=allowed)
    np.testing.assert_array_equal(found.rows, numbers[100:300][among.rows])


@needs_gpu
def test_nprobe_counts_on_several_gpus(
    monkeypatch: pytest.MonkeyPatch, corpus: np.ndarray, queries: np.ndarray
) -> None:
    spec = IndexSpec("IVF16,Flat", nprobe=2)
    on_cpu = build_index(corpus, spec, device="cpu")
    monkeypatch.setattr(device, "gpus", lambda: [0, 0])
    on_gpus = on_cpu.on("gpu")
    assert len(parts(on_gpus.faiss_index)) == 2
    for nprobe in (None, 1, 5, 16):
        found, expected = on_gpus.search(queries, 5, nprobe=nprobe), on_cpu.search(queries, 5, nprobe=nprobe)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
