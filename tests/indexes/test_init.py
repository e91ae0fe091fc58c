from __future__ import annotations

import subprocess
import sys

import pytest

import indexes


@pytest.mark.parametrize(
    "statement", ["import indexes", "import indexes.errors", "import indexes.spec"]
)
def test_importing_loads_neither_faiss_nor_torch(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in ('faiss', 'torch') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_exported_names() -> None:
    assert indexes.__all__ == [
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


@pytest.mark.parametrize("name", indexes.__all__)
def test_every_exported_name_is_what_it_says(name: str) -> None:
    assert getattr(indexes, name).__name__ == name
    assert name in dir(indexes)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'biuld_index'"):
        _ = indexes.biuld_index
