"""Which images of a collection are the same picture: found, never deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from indexes import near_pairs
from retrieval.collection import Collection
from retrieval.documents import ImageFile
from retrieval.rank.duplicates import Sets, same_contents
from retrieval.wanted import SAME_PICTURE

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class DuplicateGroup:
    """Images of one picture, the best first: most pixels, then most bytes, then the first path.

    kind    EXACT if all have the same content, else NEAR
    scores  cosine of each with the best
    """

    kind: str
    files: list[ImageFile]
    scores: list[float]

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "images": [
            {"path": one.path, "id": one.id, "bytes": one.size, "width": one.width, "height": one.height,
             "score": round(score, 6), "best": place == 0}
            for place, (one, score) in enumerate(zip(self.files, self.scores))
        ]}


def duplicate_groups(collection: Collection, threshold: float | None = SAME_PICTURE) -> list[DuplicateGroup]:
    """Groups of at least two, in the order of their first images.

    threshold  cosine from which on two images are the same picture; what is joined by a chain of such
               pairs is one group, as the frames of a still scene. None: equal contents alone

    Contents are told by their hashes and compared once, so many exact copies cost little; then every
    image is compared with every other one, block by block. Raises VectorIndexError on a threshold
    outside of (0, 1], CollectionError.
    """
    return collection.undisturbed(lambda: _groups(collection, threshold))


def _groups(collection: Collection, threshold: float | None) -> list[DuplicateGroup]:
    known = collection.vectors.n  # others may have committed more since it was opened
    indexed = [(row, content) for row, content in collection.catalog.contents() if row < known]
    rows = np.array([row for row, _ in indexed], np.int64)
    contents = [content for _, content in indexed]
    sets = Sets(len(rows))
    first, copy = same_contents(contents)
    sets.join(first, copy)
    distinct = np.setdiff1d(np.arange(len(rows)), copy)
    if threshold is not None:
        for _, lower, higher in near_pairs(collection.vectors.chosen(rows[distinct]), threshold):
            sets.join(distinct[lower], distinct[higher])
    groups = sets.groups()
    files = collection.catalog.files_of_rows([int(row) for group in groups for row in rows[group]])
    return [_group(collection, rows[group], [contents[one] for one in group], files) for group in groups]


def _group(
    collection: Collection, rows: np.ndarray, contents: list[str | None], files: dict[int, ImageFile]
) -> DuplicateGroup:
    def worth(place: int) -> tuple:
        file = files[int(rows[place])]
        return (-(file.width or 0) * (file.height or 0), -file.size, file.path)

    order = sorted(range(len(rows)), key=worth)
    vectors = collection.vectors.take(rows[order])
    return DuplicateGroup(
        EXACT if len(set(contents)) == 1 and contents[0] is not None else NEAR,
        [files[int(row)] for row in rows[order]],
        np.clip(vectors @ vectors[0], -1, 1).tolist(),
    )
