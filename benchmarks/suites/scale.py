"""How a collection behaves as it grows: memory and time of indexing, of opening, of searching.

Indexing should take as much memory for 20,000 photos as for 1,000. Vectors that are searched are
made up, 512 dimensions; the peer loads the same float16 .npy files into one float32 matrix and
multiplies. Both must find the same rows. Ours reads the vectors where they lie: its peak counts pages
of files, which the system may take back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import timing, worker
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.collections import indexed, made_up, random_units
from benchmarks.kept import remove
from benchmarks.models import BUILTIN
from benchmarks.photos import many_photos

SHOWN = ("images_per_second", "p95_ms")
SIDE = 224
K = 10
QUERY_SEED = 1  # no block of documents is drawn with it
PHOTOS, VECTORS = (1_000, 20_000), (10_000, 100_000, 1_000_000)
QUICK_PHOTOS, QUICK_VECTORS = (24,), (2_000,)


def cases(quick: bool) -> list[Case]:
    photos, vectors = (QUICK_PHOTOS, QUICK_VECTORS) if quick else (PHOTOS, VECTORS)
    queries = 4 if quick else 50
    return [
        *map(_indexing, photos),
        _again(photos[-1]),
        *map(_opening, vectors),
        *(_searching(n, queries) for n in vectors),
    ]


def _indexing(images: int) -> Case:
    return Case(
        name=f"memory of indexing {images:,} photos",
        settings=_of_photos(images),
        contenders={"ours": Contender(index_anew, ours=True)},
        unit="peak_mib", better="lower", warm_up=0, most_repeats=1,
    )


def _again(images: int) -> Case:
    return Case(
        name=f"index {images:,} unchanged photos",
        settings=_of_photos(images),
        contenders={"ours": Contender(index_again, ours=True)},
        unit="seconds", better="lower",
    )


def _opening(n: int) -> Case:
    return Case(
        name=f"open {n:,} vectors and search once",
        settings={"n": n, "k": K, "queries": 1},
        contenders={"ours": Contender(open_ours, ours=True), "numpy": Contender(open_numpy)},
        unit="seconds", better="lower", baseline="numpy", most_repeats=3, agree={"rows_found": 0},
    )


def _searching(n: int, queries: int) -> Case:
    return Case(
        name=f"search {n:,} vectors",
        settings={"n": n, "k": K, "queries": queries},
        contenders={"ours": Contender(search_ours, ours=True), "numpy": Contender(search_numpy)},
        unit="p50_ms", better="lower", baseline="numpy", most_repeats=3, agree={"rows_found": 0},
    )


def _of_photos(images: int) -> dict[str, Any]:
    return {"model": BUILTIN, "images": images, "width": SIDE, "height": SIDE}


def index_anew(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.maintain import Options, index_sources

    folder, collection = _photos(settings, work), _collection(settings, work)

    def measure() -> Metrics:
        remove(collection)
        worker.forget_peak()
        taken = timing.seconds(lambda: index_sources([folder], collection, Options(settings["model"])))
        return {
            "seconds": taken, "images_per_second": settings["images"] / taken, "peak_mib": worker.peak_mib()
        }

    return measure


def index_again(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.maintain import index_sources
    from retrieval.reading import EncoderOnDemand

    folder = _photos(settings, work)
    collection = indexed(folder, _collection(settings, work), settings["model"])

    def measure() -> Metrics:
        encoder = EncoderOnDemand()
        taken = timing.seconds(lambda: index_sources([folder], collection, encoder=encoder))
        if encoder.loaded:
            raise RuntimeError("an unchanged folder had the encoder loaded")
        return {"seconds": taken}

    return measure


def open_ours(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.collection import Collection

    path, query = made_up(work, settings["n"]), random_units(1, QUERY_SEED)

    def measure() -> Metrics:
        found: list[int] = []

        def search() -> None:
            with Collection.open(path) as collection:
                found.extend(_rows(collection, query, settings["k"]))

        return {"seconds": timing.seconds(search), "rows_found": sum(found)}

    return measure


def open_numpy(settings: Mapping[str, Any], work: Path) -> Measure:
    path, query = made_up(work, settings["n"]), random_units(1, QUERY_SEED)

    def measure() -> Metrics:
        found: list[int] = []
        taken = timing.seconds(lambda: found.extend(_best(_matrix(path), query[0], settings["k"])))
        return {"seconds": taken, "rows_found": sum(found)}

    return measure


def search_ours(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.collection import Collection

    collection = Collection.open(made_up(work, settings["n"]))
    return _one_by_one(settings, lambda query: _rows(collection, query[None], settings["k"]))


def search_numpy(settings: Mapping[str, Any], work: Path) -> Measure:
    matrix = _matrix(made_up(work, settings["n"]))
    return _one_by_one(settings, lambda query: _best(matrix, query, settings["k"]))


def _one_by_one(settings: Mapping[str, Any], search: Callable[[Any], list[int]]) -> Measure:
    queries = random_units(settings["queries"], QUERY_SEED)  # (q, d)

    def measure() -> Metrics:
        found: list[int] = []
        return {**timing.latencies(lambda query: found.extend(search(query)), queries), "rows_found": sum(found)}

    return measure


def _rows(collection: Any, query: Any, k: int) -> list[int]:
    """As Collection.search goes on once the words are a vector (1, d)."""
    return [int(hit.id) for hit in collection.search_vectors(["a query"], query, collection.checked_k(k))]


def _matrix(path: Path) -> Any:
    """The collection's vectors (n, d) as numpy reads them, float32."""
    import numpy as np

    shards = [np.load(file, mmap_mode="r") for file in sorted(path.glob("vectors/*.npy"))]
    matrix = np.empty((sum(map(len, shards)), shards[0].shape[1]), np.float32)
    np.concatenate(shards, out=matrix)
    return matrix


def _best(matrix: Any, query: Any, k: int) -> list[int]:
    import numpy as np

    scores = matrix @ query  # (n,)
    best = np.argpartition(scores, -k)[-k:]
    return best[np.argsort(-scores[best])].tolist()


def _photos(settings: Mapping[str, Any], work: Path) -> Path:
    return many_photos(work, settings["width"], settings["height"], settings["images"])


def _collection(settings: Mapping[str, Any], work: Path) -> Path:
    return work / f"scale-{settings['images']}.collection"
