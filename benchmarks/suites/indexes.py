"""Vector search: recall, throughput, latency, build time and size.

Vectors are synthetic, with a modality gap: see benchmarks/vectors_with_gap.py. Recall is the share
of the 10 best that exact search finds. Throughput is one batch of all queries; p50 and p95 are of
single queries, one after the other. No exact search of one query is faster than reading the vectors
once, with as many threads: read_ms says how long that takes for those of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.kept import kept

SHOWN = ("recall", "p50_ms", "p95_ms", "read_ms", "bytes_per_vector")
PLOT = ("Recall against speed", "queries a second, one batch", "recall of the 10 best")
DIM = 512
K = 10
PEERS = {"hnswlib": {"hnswlib": "hnswlib"}, "usearch": {"usearch": "usearch"}}


def cases(quick: bool) -> list[Case]:
    size = {"n": 5_000 if quick else 100_000, "dim": DIM, "k": K, "seed": 0,
            "queries": 200 if quick else 1000, "single_queries": 50 if quick else 200}
    lists = 64 if quick else 1024
    probes, widths = ((4, 16), (16, 64)) if quick else ((1, 4, 16, 64), (16, 32, 64, 128, 256))
    return [
        _search(size, "exact", "exact search", {}),
        *([] if quick else [_search(
            {**size, "n": 1_000_000, "queries": 100, "single_queries": 50}, "exact",
            "exact search of a million", {}, headline=False)]),
        _build(size, "IVF", {"lists": lists}),
        *(_search(size, "IVF", f"IVF{lists}, nprobe {nprobe}", {"lists": lists, "nprobe": nprobe},
                  headline=nprobe == 16) for nprobe in probes),
        _build(size, "HNSW", {}),
        *(_search(size, "HNSW", f"HNSW32, efSearch {width}", {"ef_search": width},
                  headline=width == 64) for width in widths),
        _search(size, "exact on a GPU", "exact search on a GPU", {}),
        _search(size, "IVF on a GPU", f"IVF{lists} on a GPU, nprobe 16", {"lists": lists, "nprobe": 16}),
    ]


def plotted(line: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """A search's point: (series, queries a second, recall)."""
    if line["settings"].get("what") != "search":
        return None
    metrics = line["metrics"]
    series = f"{line['settings']['family']}, {line['contender']}"
    return series, metrics["queries_per_second"], metrics["recall"]


def _search(
    size: Mapping[str, Any], family: str, name: str, settings: Mapping[str, Any], headline: bool = True
) -> Case:
    return Case(
        name=name,
        settings={"what": "search", "family": family, **settings, **size},
        contenders=_contenders(family, search),
        unit="queries_per_second", better="higher", baseline="faiss", headline=headline,
    )


def _build(size: Mapping[str, Any], family: str, settings: Mapping[str, Any]) -> Case:
    return Case(
        name=f"build {family}",
        settings={"what": "build", "family": family, **settings,
                  **{name: size[name] for name in ("n", "dim", "seed", "queries", "k")}},
        contenders=_contenders(family, build),
        unit="seconds", better="lower", baseline="faiss",
        warm_up=0, most_repeats=1 if family == "HNSW" else 3,
    )


def _contenders(family: str, recipe: Any) -> dict[str, Contender]:
    names = ["ours", "faiss"]
    names += {"exact": ["faiss SQfp16", "numpy"], "IVF": ["ours SQfp16"], "HNSW": [*PEERS]}.get(family, [])
    return {
        name: Contender(partial(recipe, name), ours=name.startswith("ours"), needs=PEERS.get(name, {}))
        for name in names
    }


def engine(name: str, settings: Mapping[str, Any]) -> Any:
    """The engine a contender's name stands for, with the search parameters of the settings."""
    from benchmarks import engines

    nprobe, width = settings.get("nprobe"), settings.get("ef_search")
    if name == "ours" and settings["family"] == "exact":
        return engines.InPlace()
    if name == "numpy":
        return engines.Numpy()
    if name in PEERS:
        peer = engines.Hnswlib if name == "hnswlib" else engines.Usearch
        return peer(settings["dim"]) if width is None else peer(settings["dim"], width)
    family, _, on_gpu = settings["family"].partition(" on a ")
    codes = "SQfp16" if name.endswith("SQfp16") else "Flat"
    factory = {"exact": codes, "IVF": f"IVF{settings.get('lists')},{codes}", "HNSW": "HNSW32"}[family]
    project = engines.Ours if name.startswith("ours") else engines.Faiss
    return project(factory, nprobe, width, "gpu" if on_gpu else "cpu")


def build(name: str, settings: Mapping[str, Any], work: Path) -> Measure:
    """Build anew each time; the last one built is kept for the searches."""
    import numpy as np

    data = _data(settings, work)
    documents = np.load(data / "documents.npy")
    builder = engine(name, settings)
    path = _index_file(name, settings, data)

    def measure() -> Metrics:
        built: list[Any] = []
        taken = timing.seconds(lambda: built.append(builder.build(documents)))
        path.unlink(missing_ok=True)
        kept(path, lambda beside: builder.save(built[0], beside))
        return {"seconds": taken, "bytes_per_vector": path.stat().st_size / len(documents)}

    return measure


def search(name: str, settings: Mapping[str, Any], work: Path) -> Measure:
    import numpy as np

    data = _data(settings, work)
    searcher = engine(name, settings)
    # Building needs no search parameters, and FAISS's own lie in the index.
    builder = engine(name, {**settings, "nprobe": None, "ef_search": None})
    path = kept(
        _index_file(name, settings, data),
        lambda beside: builder.save(builder.build(np.load(data / "documents.npy")), beside),
    )
    index = searcher.load(path)
    queries, truth = np.load(data / "queries.npy"), np.load(data / "truth.npy")
    k, singles = settings["k"], settings["single_queries"]

    def measure() -> Metrics:
        found: list[Any] = []
        taken = timing.seconds(lambda: found.append(searcher.search(index, queries, k)))
        floor = {"read_ms": read_ms(path)} if (name, settings["family"]) == ("ours", "exact") else {}
        return {
            **floor,
            "recall": overlap(found[0], truth),
            "queries_per_second": len(queries) / taken,
            **timing.latencies(
                lambda at: searcher.search(index, queries[at : at + 1], k), range(singles)
            ),
            "bytes_per_vector": path.stat().st_size / settings["n"],
        }

    return measure


def read_ms(path: Path, times: int = 9) -> float:
    """How long it takes to read a file in the page cache once: the median of `times`."""
    import numpy as np
    import torch

    mapped = torch.from_dlpack(np.memmap(path, np.int64, "r", shape=path.stat().st_size // 8))
    return timing.latencies(lambda _: mapped.sum(), range(times))["p50_ms"]


def overlap(rows: Any, truth: Any) -> float:
    """The share of truth (q, k) that is found in rows (q, k), query by query."""
    hits = sum(len(set(found) & set(best)) for found, best in zip(rows.tolist(), truth.tolist()))
    return hits / truth.size


def _data(settings: Mapping[str, Any], work: Path) -> Path:
    """A folder with documents.npy (n, d), queries.npy (q, d), and truth.npy (q, k)."""
    name = "n{n}-d{dim}-q{queries}-k{k}-seed{seed}".format(**settings)
    return kept(work / "vectors" / name, lambda folder: _write_data(settings, folder))


def _write_data(settings: Mapping[str, Any], folder: Path) -> None:
    import numpy as np

    from benchmarks.vectors_with_gap import vectors_with_gap
    from indexes import exact_search

    made = vectors_with_gap(
        settings["n"], settings["queries"], settings["dim"], seed=settings["seed"]
    )
    folder.mkdir()
    np.save(folder / "documents.npy", made.documents)
    np.save(folder / "queries.npy", made.queries)
    np.save(folder / "truth.npy", exact_search(made.documents, made.queries, settings["k"]).rows)


def _index_file(name: str, settings: Mapping[str, Any], data: Path) -> Path:
    lists = settings.get("lists", "")
    return data / f"{settings['family']}{lists}-{name}.index".replace(" ", "_")
