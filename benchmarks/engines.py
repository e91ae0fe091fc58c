"""Vector indexes of this project, FAISS's and numpy's, behind one set of four verbs.

    build(documents (n, d) float32) -> index      save(index, path)
    load(path, stored (n, d) float16) -> index    search(index, queries, k, **setting) -> rows (q, k)

`stored` are the same documents as a collection keeps them: a memory map, for engines that read
vectors where they lie. `settings` are the search parameters worth trying: ladders, each of which
climbs from cheap to thorough. Engines of other projects are in benchmarks/peers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import LeftOut

Ladder = tuple[dict[str, int], ...]

LINKS = 32  # of HNSW graphs, everywhere
BUILD_CANDIDATES = 200
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
AS_BUILT: tuple[Ladder, ...] = (({},),)


def ladder(name: str, values: tuple[int, ...], **fixed: int) -> Ladder:
    """One parameter's values, beside others that stay as they are."""
    return tuple({name: value, **fixed} for value in values)


@dataclass(frozen=True)
class Ours:
    """indexes.build_index, load_index and VectorIndex.search."""

    factory: str
    settings: tuple[Ladder, ...] = AS_BUILT
    device: str = "cpu"
    refine: int | None = None
    reads_stored = False

    def build(self, documents: np.ndarray) -> Any:
        from indexes import build_index

        _require(self.device)
        return build_index(documents, self._spec(), device=self.device)

    def search(self, index: Any, queries: np.ndarray, k: int, **setting: int) -> np.ndarray:
        return index.search(queries, k, **setting).rows

    def save(self, index: Any, path: Path) -> None:
        from indexes import save_index

        save_index(index, path)

    def load(self, path: Path, stored: np.ndarray) -> Any:
        from indexes import load_index

        _require(self.device)
        return load_index(path, self._spec(), device=self.device)

    def _spec(self) -> Any:
        from indexes import IndexSpec

        return IndexSpec(self.factory, refine=self.refine)


@dataclass(frozen=True)
class Refined(Ours):
    """indexes.RefinedIndex over small codes and the stored vectors."""

    refine: int | None = 10
    reads_stored = True

    def load(self, path: Path, stored: np.ndarray) -> Any:
        from indexes import RefinedIndex

        return RefinedIndex(super().load(path, stored), stored)


@dataclass(frozen=True)
class InPlace:
    """indexes.FlatIndex over the stored vectors; there is nothing to build but the sketch of them.

    sketched  whether there is one
    """

    settings: tuple[Ladder, ...] = AS_BUILT
    sketched: bool = True
    reads_stored = True

    def build(self, documents: np.ndarray) -> Any:
        from indexes import sketch_of

        return sketch_of(documents.astype(np.float16)) if self.sketched else None

    def search(self, index: Any, queries: np.ndarray, k: int) -> np.ndarray:
        return index.search(queries, k).rows

    def save(self, index: Any, path: Path) -> None:
        from indexes import write_sketch

        path.touch()
        if index is not None:
            write_sketch(index, path)

    def load(self, path: Path, stored: np.ndarray) -> Any:
        from indexes import FlatIndex, read_sketch

        return FlatIndex(stored, sketch=read_sketch(path, stored.shape[1]) if path.stat().st_size else None)


@dataclass(frozen=True)
class Faiss:
    """faiss by itself: index_factory, train, add, search."""

    factory: str
    settings: tuple[Ladder, ...] = AS_BUILT
    device: str = "cpu"
    reads_stored = False

    def build(self, documents: np.ndarray) -> Any:
        import faiss

        index = self._moved(
            faiss.index_factory(documents.shape[1], self.factory, faiss.METRIC_INNER_PRODUCT)
        )
        if self.factory.startswith("HNSW"):
            index.hnsw.efConstruction = BUILD_CANDIDATES
        index.train(documents)
        index.add(documents)
        return index

    def search(self, index: Any, queries: np.ndarray, k: int, **setting: int) -> np.ndarray:
        import faiss

        if setting:
            faiss.ParameterSpace().set_index_parameters(
                index, ",".join(f"{name}={value}" for name, value in setting.items())
            )
        return index.search(queries, k)[1]

    def save(self, index: Any, path: Path) -> None:
        import faiss

        faiss.write_index(faiss.index_gpu_to_cpu(index) if self.device == "gpu" else index, str(path))

    def load(self, path: Path, stored: np.ndarray) -> Any:
        import faiss

        return self._moved(faiss.read_index(str(path)))

    def _moved(self, index: Any) -> Any:
        if self.device == "cpu":
            return index
        import faiss

        _require(self.device)
        return faiss.index_cpu_to_all_gpus(index, ngpu=1)


@dataclass(frozen=True)
class Numpy:
    """A matrix product and argpartition, a block of queries at a time."""

    settings: tuple[Ladder, ...] = AS_BUILT
    reads_stored = False

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
        with path.open("wb") as file:  # given a name, numpy would add a suffix
            np.save(file, index)

    def load(self, path: Path, stored: np.ndarray) -> Any:
        return np.load(path)


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
