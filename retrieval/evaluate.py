"""Measuring recall of a collection with captions, in both directions, by exact ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

from retrieval.collection import Collection
from retrieval.corpus.captions import match_captions, read_captions
from retrieval.metrics import (
    first_relevant_ranks, hit_rate_at_k, mean_reciprocal_rank, median_rank,
)
from retrieval.types import Encoder

K = (1, 5, 10)
TEXT_BLOCK = 1024


@dataclass(frozen=True)
class DirectionScores:
    """hit_rates: fraction of queries with a right answer in the top k, by k."""

    queries: int
    hit_rates: dict[int, float]
    median_rank: float
    mrr: float

    def to_json(self) -> dict[str, float]:
        """With R@k in percent, as papers print it."""
        return {
            "queries": self.queries,
            **{f"R@{k}": round(100 * rate, 4) for k, rate in self.hit_rates.items()},
            "median_rank": self.median_rank,
            "MRR": round(self.mrr, 6),
        }


@dataclass(frozen=True)
class Evaluation:
    """Recall of one collection on one captions file.

    images         all images of the collection: what text queries are ranked against
    captions       captions that have an image here: what image queries are ranked against
    missing        names in the captions file without an image here
    ambiguous      names that fit several images equally well, so they were left out
    uncaptioned    images without a caption: distractors for text queries, never queries
    """

    encoder: str
    images: int
    captions: int
    text_to_image: DirectionScores
    image_to_text: DirectionScores
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    uncaptioned: int = 0
    empty_captions: int = 0

    def to_json(self) -> dict[str, Any]:
        counts = asdict(self)
        del counts["missing"], counts["ambiguous"]
        return {
            **counts,
            "text_to_image": self.text_to_image.to_json(),
            "image_to_text": self.image_to_text.to_json(),
            "missing_files": len(self.missing),
            "ambiguous_names": len(self.ambiguous),
        }


def evaluate(
    collection: Collection,
    captions: Path,
    *,
    split: str | None = None,
    encoder: Encoder | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Rank every captioned image for its captions, and every caption for its images.

    A caption's query has one right answer, its image. An image's query is a hit if any of its
    captions is among the top k (Karpathy & Fei-Fei 2015). Ranks are exact: see
    `retrieval.metrics.first_relevant_ranks`, also for ties.

    Raises CaptionsError, EncoderError.
    """
    read = read_captions(captions, split=split)
    documents = collection.catalog.indexed()  # (id, row), by row
    matched = match_captions(read.captions, [id for id, _ in documents])
    encoder = encoder or collection.load_encoder()
    texts = _embed(matched.texts, encoder, progress)  # (c, d)
    rows = np.fromiter((row for _, row in documents), np.int64)
    images = collection.vectors.take(rows)  # (n, d)
    owner = matched.documents  # (c,)
    order = np.argsort(owner, kind="stable")
    captioned, firsts = np.unique(owner[order], return_index=True)
    return Evaluation(
        encoder=encoder.name,
        images=len(images),
        captions=len(texts),
        text_to_image=_scores(first_relevant_ranks(texts, images, owner[:, None])),
        image_to_text=_scores(
            first_relevant_ranks(images[captioned], texts, np.split(order, firsts[1:]))
        ),
        missing=matched.missing,
        ambiguous=matched.ambiguous,
        uncaptioned=len(matched.uncaptioned),
        empty_captions=read.empty,
    )


def _embed(
    texts: list[str], encoder: Encoder, progress: Callable[[int, int], None]
) -> np.ndarray:
    parts = []
    for start in range(0, len(texts), TEXT_BLOCK):
        parts.append(encoder.encode_texts(texts[start : start + TEXT_BLOCK]))
        progress(min(start + TEXT_BLOCK, len(texts)), len(texts))
    return np.concatenate(parts)


def _scores(ranks: np.ndarray) -> DirectionScores:
    return DirectionScores(
        queries=len(ranks),
        hit_rates={k: hit_rate_at_k(ranks, k) for k in K},
        median_rank=median_rank(ranks),
        mrr=mean_reciprocal_rank(ranks),
    )
