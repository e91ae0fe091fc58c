"""Vector indexes of other projects, behind the verbs of benchmarks/engines.py."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import LeftOut
from benchmarks.engines import BUILD_CANDIDATES, LINKS, WIDTHS, Faiss, Ladder, ladder

AUTOFAISS_PYTHON = "RETRIEVAL_BENCH_AUTOFAISS_PYTHON"  # an interpreter that has autofaiss
_BUILD_BY_AUTOFAISS = """
import sys
from autofaiss import build_index
folder, threads = sys.argv[1], int(sys.argv[2])
build_index(folder, folder + "/index", folder + "/infos.json", metric_type="ip", nb_cores=threads, verbose=40)
"""


@dataclass(frozen=True)
class Hnswlib:
    settings: tuple[Ladder, ...] = (ladder("width", WIDTHS),)
    reads_stored = False

    def build(self, documents: np.ndarray) -> Any:
        import hnswlib

        index = hnswlib.Index("ip", documents.shape[1])
        index.init_index(len(documents), M=LINKS, ef_construction=BUILD_CANDIDATES, random_seed=0)
        index.set_num_threads(threads())
        index.add_items(documents)
        return index

    def search(self, index: Any, queries: np.ndarray, k: int, width: int = 16) -> np.ndarray:
        index.set_ef(max(width, k))
        return index.knn_query(queries, k)[0].astype(np.int64)

    def save(self, index: Any, path: Path) -> None:
        index.save_index(str(path))

    def load(self, path: Path, stored: np.ndarray) -> Any:
        import hnswlib

        index = hnswlib.Index("ip", stored.shape[1])
        index.load_index(str(path))
        index.set_num_threads(threads())
        return index


@dataclass(frozen=True)
class Usearch:
    """precision: "f32", "f16" or "i8", in which usearch keeps and compares vectors."""

    precision: str = "f32"
    settings: tuple[Ladder, ...] = (ladder("width", WIDTHS),)
    reads_stored = False

    def build(self, documents: np.ndarray) -> Any:
        index = self._empty(documents.shape[1])
        index.add(np.arange(len(documents)), documents, threads=threads())
        return index

    def search(self, index: Any, queries: np.ndarray, k: int, width: int = 16) -> np.ndarray:
        index.expansion_search = width
        rows = index.search(queries, k, threads=threads()).keys
        return np.asarray(rows).reshape(len(queries), -1).astype(np.int64)  # one query comes back flat

    def save(self, index: Any, path: Path) -> None:
        index.save(str(path))

    def load(self, path: Path, stored: np.ndarray) -> Any:
        index = self._empty(stored.shape[1])
        index.load(str(path))
        return index

    def _empty(self, dim: int) -> Any:
        from usearch.index import Index

        return Index(
            ndim=dim, metric="ip", dtype=self.precision, connectivity=LINKS,
            expansion_add=BUILD_CANDIDATES,
        )


@dataclass(frozen=True)
class Scann:
    """Its documentation's advice: sqrt(n) leaves, hashes of 2 dimensions each, then reordering.

    It reorders with vectors in bfloat16, which take as much as our float16.
    """

    settings: tuple[Ladder, ...] = tuple(
        ladder("leaves", (5, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480), reorder=reorder)
        for reorder in (30, 60, 120, 240, 480)
    )
    reads_stored = False

    def build(self, documents: np.ndarray) -> Any:
        from scann.scann_ops.py import scann_ops_pybind
        from scann.scann_ops.py.scann_builder import ReorderType

        n = len(documents)
        leaves = max(1, round(n**0.5))
        builder = scann_ops_pybind.builder(np.ascontiguousarray(documents), 10, "dot_product")
        builder.set_n_training_threads(threads())
        return (
            builder.tree(leaves, max(1, leaves // 10), training_sample_size=min(n, 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100, quantize=ReorderType.BFLOAT16)
            .build()
        )

    def search(
        self, index: Any, queries: np.ndarray, k: int, leaves: int = 20, reorder: int = 100
    ) -> np.ndarray:
        if len(queries) == 1:
            found = index.search(queries[0], k, max(reorder, k), leaves)[0][None]
        else:
            found = index.search_batched_parallel(queries, k, max(reorder, k), leaves)[0]
        return found.astype(np.int64)

    def save(self, index: Any, path: Path) -> None:
        path.mkdir()
        index.serialize(str(path), relative_path=True)

    def load(self, path: Path, stored: np.ndarray) -> Any:
        from scann.scann_ops.py import scann_ops_pybind

        index = scann_ops_pybind.load_searcher(str(path))
        index.set_num_threads(threads())
        return index


@dataclass(frozen=True)
class Autofaiss(Faiss):
    """The index that autofaiss chooses and builds in an environment of its own; searched by faiss."""

    factory: str = ""
    settings: tuple[Ladder, ...] = (ladder("width", WIDTHS),)

    def build(self, documents: np.ndarray) -> Any:
        import faiss

        python = os.environ.get(AUTOFAISS_PYTHON, "")
        if not python:
            raise LeftOut(f"{AUTOFAISS_PYTHON} names no interpreter that has autofaiss")
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/documents.npy", documents)
            command = [python, "-c", _BUILD_BY_AUTOFAISS, folder, str(threads())]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise LeftOut(f"autofaiss failed: {done.stderr.strip().splitlines()[-1:]}")
            return faiss.read_index(f"{folder}/index")

    def search(self, index: Any, queries: np.ndarray, k: int, width: int = 16) -> np.ndarray:
        import faiss

        graph = isinstance(faiss.downcast_index(index), faiss.IndexHNSW)
        return super().search(index, queries, k, **{"efSearch" if graph else "nprobe": width})


def threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "1"))
