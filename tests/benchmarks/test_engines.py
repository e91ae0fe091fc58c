from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import engines, peers
from benchmarks.case import LeftOut
from benchmarks.suites.indexes import overlap
from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import exact_search

EVERYTHING = [
    (engines.Ours("Flat"), {}),
    (engines.Ours("IVF4,Flat"), {"nprobe": 4}),
    (engines.Ours("HNSW32"), {"ef_search": 500}),
    (engines.Refined("IVF4,PQ8x4fs"), {"nprobe": 4, "refine": 100}),
    (engines.Faiss("Flat"), {}),
    (engines.Faiss("IVF4,Flat"), {"nprobe": 4}),
    (engines.Faiss("HNSW32"), {"efSearch": 500}),
    (engines.InPlace(), {}),
    (engines.Numpy(), {}),
    *([(peers.Hnswlib(), {"width": 500})] if find_spec("hnswlib") else []),
    *([(peers.Usearch(), {"width": 500})] if find_spec("usearch") else []),
    # Not ScaNN: loaded into a process where usearch is, it has ended the process.
]


@pytest.mark.parametrize(("engine", "everything"), EVERYTHING, ids=str)
def test_every_engine_finds_what_exact_search_finds_once_it_looks_everywhere(engine, everything, tmp_path):
    made = vectors_with_gap(500, 20, 32, rank=8, clusters=10)
    stored = made.documents.astype(np.float16)
    engine.save(engine.build(made.documents), tmp_path / "index")
    index = engine.load(tmp_path / "index", stored)
    truth = exact_search(stored if engine.reads_stored else made.documents, made.queries, 5).rows
    if type(engine).__module__ == peers.__name__:  # graphs built by two threads may miss one
        found = engine.search(index, made.queries, 5, **everything)
        assert found.shape == truth.shape and overlap(found, truth) >= 0.95
        return
    assert engine.search(index, made.queries, 5, **everything).tolist() == truth.tolist()
    assert engine.search(index, made.queries[:1], 5, **everything).tolist() == truth[:1].tolist()


def test_a_ladder_climbs_one_parameter():
    assert engines.ladder("nprobe", (1, 2), refine=4) == ({"nprobe": 1, "refine": 4}, {"nprobe": 2, "refine": 4})


def test_autofaiss_is_left_out_where_no_interpreter_is_named(monkeypatch):
    monkeypatch.delenv(peers.AUTOFAISS_PYTHON, raising=False)
    with pytest.raises(LeftOut, match="RETRIEVAL_BENCH_AUTOFAISS_PYTHON names no interpreter"):
        peers.Autofaiss().build(np.zeros((3, 8), np.float32))
