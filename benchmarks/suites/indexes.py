"""Vector search: speed at a recall, for text-like and image-like queries.

Vectors are synthetic, with a modality gap: see benchmarks/vectors_with_gap.py. Recall is the share
of the 10 best that exact search finds; image_recall is that of image-like queries at the same
setting. In a race every engine climbs its search parameters until text-like queries reach the
recall that the case names, and is measured there; so ours stands in each race, once beside each peer.
Throughput is one batch of all queries; p50 and p99 are of single queries, one after the other.
bytes_per_vector counts the stored vectors too where an engine reads them. No exact search of one
query that reads the vectors is faster than reading them once, with as many threads: read_ms says how
long that takes. Ours reads a sketch of them first, and "ours, no sketch" does without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, LeftOut, Measure, Metrics
from benchmarks.kept import kept

SHOWN = ("recall", "image_recall", "p50_ms", "p99_ms", "read_ms", "bytes_per_vector", "build_seconds")
PLOT = ("Recall against speed", "queries a second, one batch", "recall of the 10 best, text-like queries")
DIM = 512
K = 10
NO_SKETCH = "ours, no sketch"
TARGETS = (0.95, 0.99)
RACERS: Mapping[str, Mapping[str, str]] = {
    "faiss HNSW": {},
    "hnswlib": {"hnswlib": "hnswlib"},
    "usearch f16": {"usearch": "usearch"},
    "usearch i8": {"usearch": "usearch"},
    "ScaNN": {"scann": "scann"},
    "autofaiss": {},
}


def cases(quick: bool) -> list[Case]:
    queries = {"queries": 200 if quick else 1000, "single_queries": 50 if quick else 200}
    size = {"n": 5_000 if quick else 100_000, "dim": DIM, "k": K, "seed": 0, **queries}
    million = {**size, "n": 5_000 if quick else 1_000_000}
    lists = 64 if quick else 1024
    return [
        *(_race(million, target, peer) for target in TARGETS[: 1 if quick else None] for peer in RACERS),
        _case("exact search", size, ["ours", NO_SKETCH, "faiss", "faiss SQfp16", "numpy"], what="exact"),
        *([] if quick else [_case(
            "exact search of a million", {**million, "queries": 100, "single_queries": 50},
            ["ours", NO_SKETCH, "faiss SQfp16", "numpy"], what="exact", baseline="faiss SQfp16")]),
        _case("exact search on a GPU", size, ["ours", "faiss"], what="exact on a GPU"),
        _case(f"IVF{lists} on a GPU, nprobe 16", size, ["ours", "faiss"], what="IVF on a GPU",
              lists=lists, nprobe=16),
    ]  # fmt: skip


def plotted(line: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """A racer's point: (series, queries a second, recall)."""
    if line["settings"].get("what") != "race":
        return None
    return line["contender"], line["metrics"]["queries_per_second"], line["metrics"]["recall"]


def _race(size: Mapping[str, Any], target: float, peer: str) -> Case:
    return _case(
        f"recall {target}, beside {peer}", size, ["ours", peer], what="race", baseline=peer, target=target
    )


def _case(
    name: str, size: Mapping[str, Any], names: list[str], what: str, baseline: str = "faiss", **settings: Any
) -> Case:
    return Case(
        name=name,
        settings={"what": what, **settings, **size},
        contenders={
            one: Contender(partial(search, one), ours=one in ("ours", NO_SKETCH), needs=RACERS.get(one, {}))
            for one in names
        },
        unit="queries_per_second", better="higher", baseline=baseline,
    )


def engine(name: str, settings: Mapping[str, Any]) -> Any:
    """The engine a contender's name stands for."""
    from benchmarks import engines, peers

    if settings["what"] == "race":
        return {
            "ours": _ours_in_race(settings["n"]),
            "faiss HNSW": engines.Faiss(
                f"HNSW{engines.LINKS}", (engines.ladder("efSearch", engines.WIDTHS),)
            ),
            "hnswlib": peers.Hnswlib(),
            "usearch f16": peers.Usearch("f16"),
            "usearch i8": peers.Usearch("i8"),
            "ScaNN": peers.Scann(),
            "autofaiss": peers.Autofaiss(),
        }[name]
    if name == "numpy":
        return engines.Numpy()
    if name == NO_SKETCH:
        return engines.InPlace(sketched=False)
    project = engines.Ours if name == "ours" else engines.Faiss
    what, _, on_gpu = settings["what"].partition(" on a ")
    device = "gpu" if on_gpu else "cpu"
    if what == "IVF":
        always = ({"nprobe": settings["nprobe"]},)
        return project(f"IVF{settings['lists']},Flat", (always,), device)
    if name == "ours" and device == "cpu":
        return engines.InPlace()
    return project("SQfp16" if name.endswith("SQfp16") else "Flat", device=device)


def _ours_in_race(n: int) -> Any:
    """What IndexSpec.suggest() chooses for a million vectors; its kind where there are few."""
    from benchmarks import engines
    from indexes.suggest import coded

    chosen = coded(n, DIM)
    probes = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    ladders = tuple(engines.ladder("nprobe", probes, refine=refine) for refine in (2, 3, 4, 6, 8, 12, 16))
    return engines.Refined(chosen.factory, ladders, refine=chosen.refine)


def search(name: str, settings: Mapping[str, Any], work: Path) -> Measure:
    import numpy as np

    data = _data(settings, work)
    searcher = engine(name, settings)
    kind = settings["what"] + str(settings.get("lists", "")) + "-sketch" * getattr(searcher, "sketched", False)
    built = kept(
        data / f"{kind}-{name}".replace(" ", "_"), lambda folder: _build(searcher, data, folder)
    )
    index = searcher.load(built / "index", np.load(data / "stored.npy", mmap_mode="r"))
    texts, images = np.load(data / "texts.npy"), np.load(data / "images.npy")
    truth, image_truth = np.load(data / "truth.npy"), np.load(data / "image_truth.npy")
    k, singles = settings["k"], settings["single_queries"]
    setting = cheapest(searcher, index, texts, truth, settings.get("target", 0.0))
    size = _bytes_of(built / "index") + (data / "stored.npy").stat().st_size * searcher.reads_stored
    facts = {
        **json.loads((built / "facts.json").read_text()),
        **setting,
        "bytes_per_vector": size / settings["n"],
        "image_recall": overlap(searcher.search(index, images, k, **setting), image_truth),
    }

    def measure() -> Metrics:
        found: list[Any] = []
        taken = timing.seconds(lambda: found.append(searcher.search(index, texts, k, **setting)))
        exact_in_place = name in ("ours", NO_SKETCH) and settings["what"] == "exact"
        return {
            **({"read_ms": read_ms(data / "stored.npy")} if exact_in_place else {}),
            "recall": overlap(found[0], truth),
            "queries_per_second": len(texts) / taken,
            **timing.latencies(
                lambda at: searcher.search(index, texts[at : at + 1], k, **setting), range(singles)
            ),
            **facts,
        }

    return measure


def cheapest(searcher: Any, index: Any, queries: Any, truth: Any, target: float) -> dict[str, int]:
    """The setting that reaches the recall with most queries a second: one step of each ladder is timed.

    Raises LeftOut with the best recall if none does.
    """
    reached: list[tuple[float, dict[str, int]]] = []
    best = 0.0
    for ladder in searcher.settings:
        for setting in ladder:
            rows = searcher.search(index, queries, truth.shape[1], **setting)
            recall = overlap(rows, truth)
            best = max(best, recall)
            if recall < target:
                continue
            taken = timing.seconds(lambda: searcher.search(index, queries, truth.shape[1], **setting))
            reached.append((taken, setting))
            break
    if not reached:
        raise LeftOut(f"it reaches a recall of {best:.4f} at most")
    return min(reached, key=lambda one: one[0])[1]


def _build(searcher: Any, data: Path, folder: Path) -> None:
    """Write `index`, a file or a folder, and facts.json: what building it took."""
    import numpy as np

    documents = np.load(data / "documents.npy")
    built: list[Any] = []
    taken = timing.seconds(lambda: built.append(searcher.build(documents)))
    folder.mkdir()
    searcher.save(built[0], folder / "index")
    (folder / "facts.json").write_text(json.dumps({"build_seconds": taken}))


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


def _bytes_of(path: Path) -> int:
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files)


def _data(settings: Mapping[str, Any], work: Path) -> Path:
    """A folder with documents (n, d), stored (n, d) float16, and of both kinds queries and truth."""
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
    np.save(folder / "stored.npy", made.documents.astype(np.float16))
    for queries, name, truth in ((made.queries, "texts", "truth"), (made.images, "images", "image_truth")):
        np.save(folder / f"{name}.npy", queries)
        np.save(folder / f"{truth}.npy", exact_search(made.documents, queries, settings["k"]).rows)
