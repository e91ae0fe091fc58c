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
    from indexes.build import add_vectors, build_index
    from indexes.device import cap_threads, gpu_count
    from indexes.exact import exact_search
    from indexes.flat import FlatIndex
    from indexes.index import VectorIndex
    from indexes.live import LiveIndex
    from indexes.matches import Matches
    from indexes.measure import (
        IndexMeasurement,
        Latency,
        OperatingPoint,
        measure_index,
        operating_points,
    )
    from indexes.near import near_pairs
    from indexes.persist import load_index, save_index
    from indexes.memory import free_memory
    from indexes.needs import has_small_codes, least_vectors, needed_memory
    from indexes.recall import RecallEstimate, ann_recall_at_k
    from indexes.refined import RefinedIndex
    from indexes.sketch import Sketch, sketch_of, sketch_pays
    from indexes.sketch_file import read_sketch, write_sketch
    from indexes.spec import IndexSpec
    from indexes.tune import Tuning, check_target, tune_index
    from indexes.spec import IndexSpec, Suggestion

_HOMES = {
    "FlatIndex": "indexes.flat",
    "IndexMeasurement": "indexes.measure",
    "IndexSpec": "indexes.spec",
    "Latency": "indexes.measure",
    "LiveIndex": "indexes.live",
    "Matches": "indexes.matches",
    "OperatingPoint": "indexes.measure",
    "RefinedIndex": "indexes.refined",
    "RecallEstimate": "indexes.recall",
    "Tuning": "indexes.tune",
    "Suggestion": "indexes.spec",
    "VectorIndex": "indexes.index",
    "ann_recall_at_k": "indexes.recall",
    "add_vectors": "indexes.build",
    "build_index": "indexes.build",
    "cap_threads": "indexes.device",
    "check_target": "indexes.tune",
    "exact_search": "indexes.exact",
    "free_memory": "indexes.memory",
    "gpu_count": "indexes.device",
    "has_small_codes": "indexes.needs",
    "least_vectors": "indexes.needs",
    "load_index": "indexes.persist",
    "measure_index": "indexes.measure",
    "needed_memory": "indexes.needs",
    "near_pairs": "indexes.near",
    "operating_points": "indexes.measure",
    "save_index": "indexes.persist",
    "tune_index": "indexes.tune",
    "search_biased": "indexes.biased",
    "sketch_pays": "indexes.sketch",
    "Sketch": "indexes.sketch",
    "sketch_of": "indexes.sketch",
    "read_sketch": "indexes.sketch_file",
    "write_sketch": "indexes.sketch_file",
}

__all__ = [
    "DimensionError",
    "FlatIndex",
    "IndexFileError",
    "IndexMeasurement",
    "IndexSpec",
    "Latency",
    "LiveIndex",
    "Matches",
    "OperatingPoint",
    "RecallEstimate",
    "RefinedIndex",
    "RetrievalError",
    "Sketch",
    "SpecError",
    "Suggestion",
    "Tuning",
    "VectorError",
    "VectorIndex",
    "VectorIndexError",
    "add_vectors",
    "ann_recall_at_k",
    "build_index",
    "cap_threads",
    "check_target",
    "exact_search",
    "free_memory",
    "gpu_count",
    "has_small_codes",
    "least_vectors",
    "load_index",
    "measure_index",
    "needed_memory",
    "near_pairs",
    "operating_points",
    "read_sketch",
    "save_index",
    "search_biased",
    "sketch_of",
    "sketch_pays",
    "tune_index",
    "write_sketch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
