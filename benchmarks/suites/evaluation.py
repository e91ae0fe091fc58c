"""Recall at 1, 5 and 10 in both directions over COCO's size: 5,000 images, 25,010 captions.

Vectors are in memory; what is measured is the way from there to six numbers. The peer is
CLIP_benchmark's own metric, called as its evaluation calls it: the dense matrix of scores, batches
of 64. The case fails unless both find the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, Measure, Metrics

SHOWN = ()
KS = (1, 5, 10)
DIRECTIONS = ("text_to_image", "image_to_text")
DIM = 512


def cases(quick: bool) -> list[Case]:
    images, captions = (1000, 5000) if quick else (5000, 25010)
    return [Case(
        name=f"{images:,} images x {captions:,} captions",
        settings={"images": images, "captions": captions, "dim": DIM, "ks": list(KS), "seed": 0},
        contenders={
            "ours": Contender(ours, ours=True),
            "CLIP_benchmark": Contender(
                clip_benchmark, needs={"clip_benchmark": "clip-benchmark", "tqdm": "tqdm"}
            ),
        },
        unit="seconds", better="lower", baseline="CLIP_benchmark",
        # The last bit of a score depends on the library's matrix product: two queries may differ.
        agree={f"{direction}_recall_{k}": 2.5 / images for direction in DIRECTIONS for k in KS},
        most_repeats=3,
    )]


def vectors(settings: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """images (i, d), captions (c, d), image_of_caption (c,): float32 unit rows, five captions each."""
    import numpy as np

    random = np.random.default_rng(settings["seed"])

    def units(count: int) -> np.ndarray:
        rows = random.standard_normal((count, settings["dim"]), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    images = units(settings["images"])
    image_of_caption = np.arange(settings["captions"]) % settings["images"]
    captions = images[image_of_caption] + 7 * units(settings["captions"])  # R@1 of about a third
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    return images, captions, image_of_caption


def ours(settings: Mapping[str, Any], work: Path) -> Measure:
    import numpy as np

    from retrieval.metrics import Relevance, hit_rate, relevant_ranks

    images, captions, image_of_caption = vectors(settings)
    by_image = np.argsort(image_of_caption, kind="stable")
    captions_of_image = np.split(
        by_image, np.cumsum(np.bincount(image_of_caption, minlength=len(images)))[:-1]
    )

    def recalls() -> Metrics:
        found = {}
        for direction, queries, documents, rows in (
            ("text_to_image", captions, images, image_of_caption[:, None]),
            ("image_to_text", images, captions, captions_of_image),
        ):
            ranks = relevant_ranks(queries, documents, Relevance.from_lists(rows))
            for k in settings["ks"]:
                found[f"{direction}_recall_{k}"] = float(np.nanmean(hit_rate(ranks, k)))
        return found

    return _timed(recalls)


def clip_benchmark(settings: Mapping[str, Any], work: Path) -> Measure:
    import torch
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    images, captions, image_of_caption = vectors(settings)
    images, captions = torch.from_numpy(images), torch.from_numpy(captions)
    batch = 64  # its command line's default

    def recalls() -> Metrics:
        scores = captions @ images.t()  # (c, i)
        right = torch.zeros_like(scores, dtype=bool)  # (c, i)
        right[torch.arange(len(scores)), torch.from_numpy(image_of_caption)] = True
        found = {}
        for direction, matrix, positives in (
            ("text_to_image", scores, right), ("image_to_text", scores.T, right.T),
        ):
            for k in settings["ks"]:
                recall = batchify(recall_at_k, matrix, positives, batch, "cpu", k=k)
                found[f"{direction}_recall_{k}"] = float((recall > 0).double().mean())
        return found

    return _timed(recalls)


def _timed(recalls: Callable[[], Metrics]) -> Measure:
    def measure() -> Metrics:
        found: Metrics = {}
        taken = timing.seconds(lambda: found.update(recalls()))
        return {"seconds": taken, **found}

    return measure
