"""What a search wants beside its queries. Asking a running server takes this and no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

from retrieval.conditions import Condition
from retrieval.errors import QueryError
from retrieval.types import CAPTIONS, FUSIONS, IMAGES, SUM

ON, OFF, AUTO = TEMPLATES = ("on", "off", "auto")  # see `retrieval.rank.templates`
# Flickr8k test, built-in encoder: 120 of 125 photos are found by their squashed copies (recall 0.96),
# and of 499,500 pairs of different photos the most alike has 0.87 (precision 1). With OpenAI's ViT-B/32 the
# most alike of 100 different photos have 0.92.
SAME_PICTURE = 0.93  # cosine
DIVERSE_WEIGHT = 0.7


def _number(name: str, value: Any, least: int, beside: str = "") -> float:
    """Raises QueryError unless it is one, of numpy's kinds too, from least to 1."""
    if isinstance(value, bool) or not (isinstance(value, Real) and least <= value <= 1):
        raise QueryError(f"{name} is {value!r}; give a number from {least} to 1{beside}.")
    return float(value)


@dataclass(frozen=True)
class Refinement:
    """What to do with the images found; by default nothing. See `retrieval.rank`.

    min_score  leave out what scores lower; AUTO: what is likely not meant, see `retrieval.rank.refinement`
    dedup      cosine from which on two images are the same picture, of which the best is kept; True: SAME_PICTURE
    diverse    weight of the score against novelty, see `retrieval.rank.diversity`; True: DIVERSE_WEIGHT
    rerank     who looks at the best images again: a `retrieval.rank.rerank.Reranker`

    Raises QueryError for values out of range.
    """

    min_score: float | str | None = None
    dedup: float | None = None
    diverse: float | None = None
    rerank: Any = None

    def __post_init__(self) -> None:
        if self.min_score is not None and self.min_score != AUTO:
            object.__setattr__(self, "min_score", _number("min_score", self.min_score, -1, f" or {AUTO}"))
        for name, usual in (("dedup", SAME_PICTURE), ("diverse", DIVERSE_WEIGHT)):
            value = getattr(self, name)
            if value is False:
                object.__setattr__(self, name, None)
            elif value is not None:
                object.__setattr__(self, name, usual if value is True else _number(name, value, 0))

    def __bool__(self) -> bool:
        return any(one is not None for one in (self.min_score, self.dedup, self.diverse, self.rerank))


@dataclass(frozen=True)
class Wanted:
    """Each as for `Collection.search`. Raises QueryError for words or refinements that are not to be had."""

    k: int | None = None
    within: str = IMAGES
    where: Condition | None = None
    fusion: str = SUM
    templates: str = AUTO
    calibrated: bool = True
    refinement: Refinement = Refinement()

    def __post_init__(self) -> None:
        for name, word, choices in (("fusion", self.fusion, FUSIONS), ("templates", self.templates, TEMPLATES)):
            if word not in choices:
                raise QueryError(f"{name} is {word!r}; choose one of {', '.join(choices)}.")
        if self.refinement and self.within == CAPTIONS:
            raise QueryError(f"Captions are not reranked, collapsed or left out; search {IMAGES} for that.")
