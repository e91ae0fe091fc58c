"""Vector indexes of this project and of others, behind one set of four verbs.

    build(documents (n, d)) -> index        search(index, queries (q, d), k) -> rows (q, k)
    save(index, path)                       load(path) -> index, ready to search

HNSW graphs get the same links (32) and the same care in building (40 candidates) everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import LeftOut

LINKS = 32
BUILD_CANDIDATES = 40


@dataclass(frozen=True)
class Ours:
    """indexes.build_index, load_index and VectorIndex.search."""

    factory: str
    nprobe: int | None = None
    ef_search: int | None = None
    device: str = "cpu"

    def build(self, documents: np.ndarray) -> Any:
        from indexes import build_index

        _require(self.device)
        return build_index(documents, self._spec(), device=self.device)

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        return index.search(queries, k).rows

    def save(self, index: Any, path: Path) -> None:
        from indexes import save_index

        save_index(index, path)

    def load(self, path: Path) -> Any:
        from indexes import load_index

        _require(self.device)
        return load_index(path, self._spec(), device=self.device)

    def _spec(self) -> Any:
        from indexes import IndexSpec

        return IndexSpec(self.factory, nprobe=self.nprobe, ef_search=self.ef_search)


@dataclass(frozen=True)
class InPlace:
    """indexes.FlatIndex over a memory map of float16 vectors, as a collection has them."""

    def build(self, documents: np.ndarray) -> Any:
        return documents.astype(np.float16)

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        return index.search(queries, k).rows

    def save(self, index: Any, path: Path) -> None:
        _save_array(index, path)

    def load(self, path: Path) -> Any:
        from indexes import FlatIndex

        return FlatIndex(np.load(path, mmap_mode="r"))


@dataclass(frozen=True)
class Faiss:
    """faiss by itself: index_factory, train, add, search."""

    factory: str
    nprobe: int | None = None
    ef_search: int | None = None
    device: str = "cpu"

    def build(self, documents: np.ndarray) -> Any:
        import faiss

        index = self._moved(
            faiss.index_factory(documents.shape[1], self.factory, faiss.METRIC_INNER_PRODUCT)
        )
        index.train(documents)
        index.add(documents)
        return index

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        return index.search(queries, k)[1]

    def save(self, index: Any, path: Path) -> None:
        import faiss

        faiss.write_index(faiss.index_gpu_to_cpu(index) if self.device == "gpu" else index, str(path))

    def load(self, path: Path) -> Any:
        import faiss

        index = self._moved(faiss.read_index(str(path)))
        if self.nprobe is not None:
            index.nprobe = self.nprobe
        if self.ef_search is not None:
            index.hnsw.efSearch = self.ef_search
        return index

    def _moved(self, index: Any) -> Any:
        if self.device == "cpu":
            return index
        import faiss

        _require(self.device)
        return faiss.index_cpu_to_all_gpus(index, ngpu=1)


@dataclass(frozen=True)
class Numpy:
    """A matrix product and argpartition, a block of queries at a time."""

    def build(self, documents: np.ndarray) -> Any:
        return documents

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        found = []
        for start in range(0, len(queries), 64):
            scores = queries[start : start + 64] @ index.T  # (b, n)
            top = np.argpartition(scores, -k, axis=1)[:, -k:]  # (b, k)
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
            found.append(np.take_along_axis(top, order, axis=1))
        return np.concatenate(found)

    def save(self, index: Any, path: Path) -> None:
        _save_array(index, path)

    def load(self, path: Path) -> Any:
        return np.load(path)


@dataclass(frozen=True)
class Hnswlib:
    dim: int
    ef_search: int = 16

    def build(self, documents: np.ndarray) -> Any:
        index = self._empty()
        index.init_index(len(documents), M=LINKS, ef_construction=BUILD_CANDIDATES, random_seed=0)
        index.set_num_threads(_threads())
        index.add_items(documents)
        return index

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        return index.knn_query(queries, k)[0].astype(np.int64)

    def save(self, index: Any, path: Path) -> None:
        index.save_index(str(path))

    def load(self, path: Path) -> Any:
        index = self._empty()
        index.load_index(str(path))
        index.set_num_threads(_threads())
        index.set_ef(self.ef_search)
        return index

    def _empty(self) -> Any:
        import hnswlib

        return hnswlib.Index("ip", self.dim)


@dataclass(frozen=True)
class Usearch:
    dim: int
    ef_search: int = 16

    def build(self, documents: np.ndarray) -> Any:
        index = self._empty()
        index.add(np.arange(len(documents)), documents, threads=_threads())
        return index

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        rows = index.search(queries, k, threads=_threads()).keys
        return np.asarray(rows).reshape(len(queries), -1).astype(np.int64)  # one query comes back flat

    def save(self, index: Any, path: Path) -> None:
        index.save(str(path))

    def load(self, path: Path) -> Any:
        index = self._empty()
        index.load(str(path))
        return index

    def _empty(self) -> Any:
        from usearch.index import Index

        return Index(
            ndim=self.dim, metric="ip", dtype="f32", connectivity=LINKS,
            expansion_add=BUILD_CANDIDATES, expansion_search=self.ef_search,
        )


def _save_array(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # given a name, numpy would add a suffix
        np.save(file, array)


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def _require(device: str) -> None:
    """Raises LeftOut for a GPU that is not there."""
    if device != "gpu":
        return
    import faiss

    try:
        count = getattr(faiss, "get_num_gpus", int)()
    except RuntimeError:  # a CUDA build without a driver
        count = 0
    if not count:
        raise LeftOut("faiss sees no GPU here")
