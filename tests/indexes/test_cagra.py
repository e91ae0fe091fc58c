from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from indexes import build, cagra, device, spread
from indexes.build import add_vectors, build_index
from indexes.cagra import LEAST, is_cagra, is_cagra_on_gpu, links_of
from indexes.errors import SpecError, VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.layers import layers
from indexes.needs import has_small_codes, least_vectors, needed_memory
from indexes.persist import load_index, save_index
from indexes.recall import ann_recall_at_k
from indexes.spec import IndexSpec

SPEC = IndexSpec("CAGRA32", ef_search=256)
WHY_NOT = device.why_not_cagra(LEAST)
needs_cagra = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)


@pytest.fixture
def no_cuvs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, and a build of FAISS that knows no CAGRA."""
    monkeypatch.setattr(device, "gpu_count", lambda: 1)
    monkeypatch.delattr(faiss, "GpuIndexCagra", raising=False)


@pytest.fixture(scope="module")
def many(unit_vectors: Callable[..., np.ndarray]) -> np.ndarray:
    return unit_vectors(LEAST + 76, 16, seed=3)  # enough for a GPU to build over


@pytest.fixture(scope="module")
def asked(unit_vectors: Callable[..., np.ndarray]) -> np.ndarray:
    return unit_vectors(20, 16, seed=4)


def innermost(index: faiss.Index) -> faiss.Index:
    return [*layers(index)][-1]


@pytest.mark.parametrize("factory, links", [("CAGRA4", 4), ("CAGRA32", 32), ("CAGRA128", 128)])
def test_the_number_in_the_factory_string_is_that_of_links(factory: str, links: int) -> None:
    assert links_of(factory) == links
    index = IndexSpec(factory).empty_index(16)
    assert type(index) is faiss.IndexHNSWCagra
    assert (index.d, index.ntotal, index.hnsw.nb_neighbors(0)) == (16, 0, links)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat", "CAGRA", "CAGRA32,Flat", "cagra32"])
def test_other_factory_strings_are_left_to_faiss(factory: str) -> None:
    assert links_of(factory) is None


@pytest.mark.parametrize("factory", ["CAGRA", "CAGRA32,Flat", "cagra32"])
def test_what_only_looks_like_cagra_is_refused(factory: str) -> None:
    with pytest.raises(SpecError, match=f'"{factory}" is not a FAISS factory string'):
        IndexSpec(factory).validate(16)


@pytest.mark.parametrize("links", [2, 33, 130])
def test_a_number_of_links_that_cannot_be_had_is_refused(links: int) -> None:
    with pytest.raises(SpecError, match=f"asks for {links} links .* an even number from 4 to 128"):
        IndexSpec(f"CAGRA{links}").validate(16)


def test_settings_of_a_search() -> None:
    IndexSpec("CAGRA32", ef_search=64).validate(16)
    with pytest.raises(SpecError, match="nprobe=4 means nothing"):
        IndexSpec("CAGRA32", nprobe=4).validate(16)


def test_what_it_needs() -> None:
    assert least_vectors(SPEC, 512) == 1
    assert needed_memory(SPEC, 1000, 512) == 1000 * (4 * 512 + 4 * 32 + 8)  # vectors, links, row numbers
    assert not has_small_codes(SPEC, 512)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_cpu_builds_it_and_says_so_in_one_line(
    many: np.ndarray, asked: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index(many, SPEC)
    assert caplog.messages == [
        '"CAGRA32" is built on the CPU, as an HNSW graph: FAISS sees no GPU on this machine.'
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert index.device == "cpu" and type(index.faiss_index) is faiss.IndexHNSWCagra
    found, truth = index.search(asked, 5), exact_search(many, asked, 5)
    np.testing.assert_array_equal(found.rows, truth.rows)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-6)


@pytest.mark.usefixtures("no_gpu")
def test_few_vectors_are_nothing_to_warn_of(corpus: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    assert build_index(corpus, SPEC).n == 600
    assert caplog.messages == []


@pytest.mark.usefixtures("no_gpu")
def test_gpu_without_a_gpu_is_an_error(many: np.ndarray, corpus: np.ndarray) -> None:
    for vectors in (many, corpus):
        with pytest.raises(VectorIndexError, match="device gpu was asked for, but FAISS sees no GPU"):
            build_index(vectors, SPEC, device="gpu")


@pytest.mark.usefixtures("no_cuvs")
def test_gpu_without_cuvs_names_what_to_install(
    many: np.ndarray, corpus: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for vectors in (many, corpus):
        with pytest.raises(VectorIndexError, match="has no CAGRA .install faiss-gpu-cuvs in place of faiss-gpu"):
            build_index(vectors, SPEC, device="gpu")
    index = build_index(many, SPEC, device="cpu")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="indexes.device"):
        assert index.on("auto") is index
    assert caplog.messages == [
        "The index stays on the CPU: this build of FAISS has no CAGRA (install faiss-gpu-cuvs in place of faiss-gpu)."
    ]


@pytest.mark.usefixtures("no_gpu")
def test_saved_opened_and_added_to_on_the_cpu(
    corpus: np.ndarray, queries: np.ndarray, rows: np.ndarray | None, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "i.faiss")
    numbers = np.arange(600) if rows is None else rows
    built = build_index(corpus[:500], SPEC, rows=None if rows is None else rows[:500])
    save_index(built, path)
    opened = load_index(path, SPEC, dim=32, mmap=True)
    assert type(innermost(opened.faiss_index)) is faiss.IndexHNSWCagra
    np.testing.assert_array_equal(opened.search(queries, 5).rows, built.search(queries, 5).rows)
    grown = add_vectors(load_index(path, SPEC), corpus[500:], numbers[500:])
    found, truth = grown.search(queries, 5, ef_search=600), exact_search(corpus, queries, 5)
    np.testing.assert_array_equal(found.rows, numbers[truth.rows])
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-6)
    allowed = np.zeros(numbers[-1] + 1, bool)
    allowed[numbers[100:400]] = True
    among = exact_search(corpus[100:400], queries, 5)
    found = grown.search(queries, 5, ef_search=600, allowed=allowed)
    np.testing.assert_array_equal(found.rows, numbers[100:400][among.rows])


@pytest.fixture
def gpu_stand_in(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of a GPU: the CPU links, and a copy stays in its memory."""
    seen = SimpleNamespace(built=[], copied=[], fails=False)

    def built(vectors: np.ndarray, links: int, resources: object, gpu: int) -> faiss.Index:
        if seen.fails:
            raise RuntimeError("Error in GpuResources: cudaMalloc failed")
        seen.built.append((vectors.shape, vectors.dtype, links, gpu))
        graph = cagra.empty_graph(vectors.shape[1], links)
        graph.add(vectors)
        return graph

    def copied(index: faiss.Index, place: int, gpu: int) -> faiss.Index:
        seen.copied.append((place, gpu))
        return faiss.deserialize_index(faiss.serialize_index(index))

    monkeypatch.setattr(build, "why_not_cagra", lambda n: None)
    monkeypatch.setattr(build, "gpus", lambda: [4, 7])
    monkeypatch.setattr(build, "gpu_resources", lambda place: None)
    monkeypatch.setattr(build, "graph_by_gpu", built)
    monkeypatch.setattr(spread, "_copied", copied)
    return seen


def test_what_a_gpu_built_gets_its_row_numbers(
    gpu_stand_in: SimpleNamespace, many: np.ndarray, asked: np.ndarray
) -> None:
    numbers, told = 2 * np.arange(len(many)) + 1, []
    halves = many.astype(np.float16)
    index = build_index(halves, SPEC, rows=numbers, device="cpu", progress=lambda *n: told.append(n))
    assert gpu_stand_in.built == [(many.shape, np.float32, 32, 4)]
    assert told == [(len(many), len(many))]
    np.testing.assert_array_equal(index.rows, numbers)
    truth = exact_search(halves, asked, 5)
    found = index.search(asked, 5)
    np.testing.assert_array_equal(found.rows, numbers[truth.rows])
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-6)


def test_a_gpu_that_cannot_build_leaves_it_to_the_cpu(
    gpu_stand_in: SimpleNamespace, many: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_stand_in.fails = True
    assert build_index(many, SPEC, device="cpu").n == len(many)
    assert caplog.messages == [
        '"CAGRA32" is built on the CPU, as an HNSW graph: the GPU could not build the graph, '
        "most likely for lack of memory."
    ]
    with pytest.raises(VectorIndexError, match="device gpu was asked for, but the GPU could not build"):
        build_index(many, SPEC, device="gpu")


def test_few_vectors_stay_on_the_cpu(
    corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "gpu_count", lambda: 1)
    monkeypatch.setattr(faiss, "GpuIndexCagra", type("GpuIndexCagra", (), {}), raising=False)
    reason = "CAGRA pays from 1024 vectors on, and there are 600"
    with pytest.raises(VectorIndexError, match=f"device gpu was asked for, but {reason}. Use device"):
        build_index(corpus, SPEC, device="gpu")
    with caplog.at_level(logging.INFO):
        assert build_index(corpus, SPEC).n == 600
    assert caplog.messages == [f"The index stays on the CPU: {reason}."]


def test_a_copy_goes_to_the_first_gpu_and_its_origin_comes_back(
    gpu_stand_in: SimpleNamespace, corpus: np.ndarray, rows: np.ndarray | None
) -> None:
    index = build_index(corpus, SPEC, rows=rows, device="cpu").faiss_index
    copy = spread.spread(index, [4, 7])
    assert gpu_stand_in.copied == [(0, 4)]
    assert is_cagra(innermost(copy)) and not is_cagra_on_gpu(innermost(copy))
    assert spread.origin(copy) is index
    flat = build_index(corpus, device="cpu").faiss_index
    assert spread.origin(flat) is None


def recall(index: object, vectors: np.ndarray, queries: np.ndarray, k: int = 10, **settings: int) -> float:
    """Recall against exact search, having checked that each score is that of its row."""
    found = index.search(queries, k, **settings)  # type: ignore[attr-defined]
    at = np.searchsorted(index.rows, found.rows)  # type: ignore[attr-defined]
    there = found.rows >= 0
    assert there[:, :10].all()
    of_rows = np.where(there, np.einsum("qd,qkd->qk", queries, vectors[at]), -np.inf)
    np.testing.assert_allclose(found.scores, of_rows, atol=1e-4)
    exact = exact_search(vectors, queries, k)
    return float(ann_recall_at_k(np.where(there, at, -1), exact, k).mean())


@needs_cagra
@pytest.mark.parametrize("sparse", [False, True])
def test_a_gpu_builds_and_searches_it(
    sparse: bool, unit_vectors: Callable[..., np.ndarray], tmp_path: os.PathLike[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    vectors, queries = unit_vectors(6000, 32, seed=5), unit_vectors(300, 32, seed=6)
    numbers = np.arange(6000) * 3 if sparse else None
    index = build_index(vectors, SPEC, rows=numbers, device="gpu")
    assert caplog.messages == []
    assert index.device == "gpu" and is_cagra_on_gpu(innermost(index.faiss_index))
    assert index.n == 6000
    path = os.path.join(tmp_path, "i.faiss")
    save_index(index, path)
    on_cpu = index.on("cpu")
    opened = load_index(path, SPEC, device="cpu")
    for one in (index, on_cpu, opened, opened.on("gpu")):
        assert recall(one, vectors, queries) > 0.9
        assert recall(one, vectors, queries[:1]) > 0.75
    assert on_cpu.device == opened.device == "cpu"
    np.testing.assert_array_equal(opened.search(queries, 10).rows, on_cpu.search(queries, 10).rows)
    allowed = np.zeros(index.rows[-1] + 1, bool)
    allowed[index.rows[100:300]] = True
    among = exact_search(vectors[100:300], queries, 5)
    np.testing.assert_array_equal(index.search(queries, 5, allowed=allowed).rows, index.rows[100:300][among.rows])


@needs_cagra
def test_candidates_on_a_gpu(unit_vectors: Callable[..., np.ndarray]) -> None:
    vectors, queries = unit_vectors(6000, 32, seed=5), unit_vectors(300, 32, seed=6)
    index = build_index(vectors, IndexSpec("CAGRA16"), device="gpu")
    by_ef = [recall(index, vectors, queries, ef_search=ef) for ef in (16, 128, 512)]
    assert by_ef[0] <= by_ef[1] + 0.01 and by_ef[1] <= by_ef[2] + 0.01 and by_ef[2] > 0.9
    assert recall(index, vectors, queries, ef_search=4096) > 0.9
    for k in (100, 1024, 1025, 3000):  # more than it keeps of its own accord
        assert recall(index, vectors, queries[:20], k=k) > 0.3


@needs_cagra
def test_what_the_cpu_linked_is_searched_on_a_gpu(unit_vectors: Callable[..., np.ndarray]) -> None:
    vectors, queries = unit_vectors(6000, 32, seed=5), unit_vectors(300, 32, seed=6)
    by_cpu = VectorIndex(SPEC.empty_index(32), SPEC)
    by_cpu.faiss_index.add(vectors)
    assert recall(by_cpu.on("gpu"), vectors, queries) > 0.9
    grown = add_vectors(build_index(vectors[:5000], SPEC, device="cpu"), vectors[5000:], np.arange(5000, 6000))
    assert recall(grown, vectors, queries) > 0.9
    assert recall(grown.on("gpu"), vectors, queries) > 0.9
