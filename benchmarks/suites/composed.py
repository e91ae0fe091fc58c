"""Composed queries: an image and a caption together, against either alone.

Of photos of the Flickr8k test split a degraded picture is shown: the middle third, or 32 pixels.
With it goes one of the photo's five captions; what is looked for is the photo itself among the
1,000 of the split (squashed to 224 pixels there), or any other caption of it among all captions.
Each query is asked by the caption, by the picture, and by both with weights of 1. Results are
percent of queries; the ends of 95 % intervals are drawn over photos.

The photos are not part of the project: see `benchmarks.flickr8k`. Without them the cases are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import flickr8k
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.models import BUILTIN

SHOWN = ("r1_low", "r1_high", "r10", "r10_low", "r10_high")
DEGRADED = {"middle third": "the middle third of the photo", "32 pixels": "the photo at 32 pixels"}
FINDS = {"images": "the photo among 1,000", "captions": "another caption among 4,999"}
AT_MOST = 10  # results that count


def cases(quick: bool) -> list[Case]:
    settings = {"model": BUILTIN, "photos": 10 if quick else 125}
    contenders = {
        "caption + image": Contender(partial(found, asked="both", fusion="sum"), ours=True),
        "caption + image, product": Contender(partial(found, asked="both", fusion="product"), ours=True),
        "caption alone": Contender(partial(found, asked="caption"), ours=True),
        "image alone": Contender(partial(found, asked="image"), ours=True),
    }
    return [
        Case(
            name=f"{sight}, finding {FINDS[within]}",
            settings={**settings, "sight": sight, "within": within},
            contenders=contenders, unit="r1", better="higher", warm_up=0, most_repeats=1,
        )
        for sight in DEGRADED for within in FINDS
    ]


def found(settings: Mapping[str, Any], work: Path, asked: str, fusion: str = "sum") -> Measure:
    """R@1 and R@10 in percent, with the ends of their 95 % intervals."""
    from retrieval.collection import Collection
    from retrieval.wanted import Wanted

    source = flickr8k.source("photos")
    captions = flickr8k.captions(source)
    collection = flickr8k.collection(source, captions, work, settings["model"])
    photos = sorted((source / "photos").glob("*.jpg"))[: settings["photos"]]
    queries = []  # (photo's name, caption, Query)
    for photo in photos:
        picture = _degraded(photo, settings["sight"])
        for caption in captions[photo.name]:
            queries.append((photo.name, caption, _query(asked, caption, picture)))

    def measure() -> Metrics:
        with Collection.open(collection, remember_queries=False) as opened:
            wanted, parsed = Wanted(AT_MOST + 2, settings["within"], fusion=fusion), [query for *_, query in queries]
            hits = opened.search_each(parsed, opened.query_vectors(parsed, wanted), wanted)
        return _recalls([_rank(one, name, caption) for one, (name, caption, _) in zip(hits, queries)],
                        [name for name, *_ in queries])

    return measure


def _query(asked: str, caption: str, picture: Any):
    from retrieval.query import Query

    text, image = Query(caption), Query("picture", picture)
    both = Query("caption + picture", terms=((1.0, text), (1.0, image)))
    return {"caption": text, "image": image, "both": both}[asked]


def _rank(hits: Any, name: str, caption: str) -> int | None:
    """Of the photo, or of a caption of it but the one asked with; from 0. None behind the last that counts."""
    names = [Path(hit.path).name for hit in hits if hit.caption is None or hit.caption != caption][:AT_MOST]
    return names.index(name) if name in names else None


def _recalls(ranks: list[int | None], clusters: list[str]) -> Metrics:
    import numpy as np

    from retrieval.bootstrap import mean_intervals

    _, members = np.unique(clusters, return_inverse=True)
    metrics: Metrics = {}
    for k in (1, 10):
        within = np.array([rank is not None and rank < k for rank in ranks], float)
        low, high = mean_intervals(within, clusters=members)
        metrics |= {f"r{k}": 100 * within.mean(), f"r{k}_low": 100 * low, f"r{k}_high": 100 * high}
    return {name: round(float(value), 2) for name, value in metrics.items()}


def _degraded(photo: Path, sight: str):
    """An upright RGB picture."""
    from PIL import Image

    from retrieval.images import open_image

    image, _ = open_image(photo)
    if sight == "32 pixels":
        return image.resize((32, 32), Image.Resampling.BICUBIC)
    width, height = image.size
    left, top = width // 3, height // 3
    return image.crop((left, top, left + width // 3, top + height // 3))
