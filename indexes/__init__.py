"""FAISS indexes over unit vectors: float32 (n, d) in, int64 rows and scores out.

    index = build_index(vectors, IndexSpec("IVF256,Flat", nprobe=16))
    scores, rows = index.search(queries, k=10)          # (q, 10), (q, 10)

Everything public is named here. Names load on first use, so that `import indexes` brings in
neither faiss nor torch: a command's `--help` must not wait for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from indexes.errors import (
    DimensionError,
    IndexFileError,
    RetrievalError,
    SpecError,
    VectorError,
    VectorIndexError,
)

if TYPE_CHECKING:
    from indexes.biased import search_biased
    from indexes.build import build_index
    from indexes.device import cap_threads, gpu_count
    from indexes.exact import exact_search
    from indexes.flat import FlatIndex
    from indexes.index import VectorIndex
    from indexes.matches import Matches
    from indexes.measure import (
        IndexMeasurement,
        Latency,
        OperatingPoint,
        measure_index,
        operating_points,
    )
    from indexes.persist import load_index, save_index
    from indexes.recall import ann_recall_at_k
    from indexes.refined import RefinedIndex
    from indexes.spec import IndexSpec

_HOMES = {
    "FlatIndex": "indexes.flat",
    "IndexMeasurement": "indexes.measure",
    "IndexSpec": "indexes.spec",
    "Latency": "indexes.measure",
    "Matches": "indexes.matches",
    "OperatingPoint": "indexes.measure",
    "RefinedIndex": "indexes.refined",
    "VectorIndex": "indexes.index",
    "ann_recall_at_k": "indexes.recall",
    "build_index": "indexes.build",
    "cap_threads": "indexes.device",
    "exact_search": "indexes.exact",
    "gpu_count": "indexes.device",
    "load_index": "indexes.persist",
    "measure_index": "indexes.measure",
    "operating_points": "indexes.measure",
    "save_index": "indexes.persist",
    "search_biased": "indexes.biased",
}

__all__ = [
    "DimensionError",
    "FlatIndex",
    "IndexFileError",
    "IndexMeasurement",
    "IndexSpec",
    "Latency",
    "Matches",
    "OperatingPoint",
    "RefinedIndex",
    "RetrievalError",
    "SpecError",
    "VectorError",
    "VectorIndex",
    "VectorIndexError",
    "ann_recall_at_k",
    "build_index",
    "cap_threads",
    "exact_search",
    "gpu_count",
    "load_index",
    "measure_index",
    "operating_points",
    "save_index",
    "search_biased",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
