from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import engines
from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import exact_search

DIM = 32
ENGINES = [
    engines.Ours("Flat"),
    engines.Ours("IVF4,Flat", nprobe=4),
    engines.Ours("HNSW32", ef_search=500),
    engines.Faiss("Flat"),
    engines.Faiss("IVF4,Flat", nprobe=4),
    engines.Faiss("HNSW32", ef_search=500),
    engines.InPlace(),
    engines.Numpy(),
    *([engines.Hnswlib(DIM, 500)] if find_spec("hnswlib") else []),
    *([engines.Usearch(DIM, 500)] if find_spec("usearch") else []),
]


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_every_engine_finds_what_exact_search_finds_once_it_looks_everywhere(engine, tmp_path):
    made = vectors_with_gap(500, 20, DIM, rank=8, clusters=10)
    engine.save(engine.build(made.documents), tmp_path / "index")
    index = engine.load(tmp_path / "index")
    stored = made.documents.astype(np.float16 if engine == engines.InPlace() else np.float32)
    truth = exact_search(stored, made.queries, 5).rows
    assert engine.search(index, made.queries, 5).tolist() == truth.tolist()
    assert engine.search(index, made.queries[:1], 5).tolist() == truth[:1].tolist()
