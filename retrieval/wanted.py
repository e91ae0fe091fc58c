"""What a search wants beside its queries. Asking a running server takes this and no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval.conditions import Condition
from retrieval.errors import QueryError
from retrieval.types import CAPTIONS, FUSIONS, IMAGES, SUM

ON, OFF, AUTO = TEMPLATES = ("on", "off", "auto")  # see `retrieval.rank.templates`


def _check(name: str, value: object, least: int, beside: str = "") -> None:
    if value is not None and not (isinstance(value, (int, float)) and least <= value <= 1):
        raise QueryError(f"{name} is {value!r}; give a number from {least} to 1{beside}.")


@dataclass(frozen=True)
class Refinement:
    """What to do with the images found; by default nothing. See `retrieval.rank`.

    min_score  leave out what scores lower; AUTO: what is likely not meant, see `retrieval.rank.refinement`
    dedup      cosine from which on two images are the same picture, of which the best is kept
    diverse    weight of the score against novelty, see `retrieval.rank.diversity`
    rerank     who looks at the best images again: a `retrieval.rank.rerank.Reranker`

    Raises QueryError for values out of range.
    """

    min_score: float | str | None = None
    dedup: float | None = None
    diverse: float | None = None
    rerank: Any = None

    def __post_init__(self) -> None:
        if self.min_score != AUTO:
            _check("min_score", self.min_score, -1, f" or {AUTO}")
        _check("dedup", self.dedup, 0)
        _check("diverse", self.diverse, 0)

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
