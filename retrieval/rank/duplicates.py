"""The same picture twice: copies by content, near-copies by vector."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Hashable, Iterable, Sequence

import numpy as np

from retrieval.wanted import SAME_PICTURE


@dataclass(frozen=True)
class Kept:
    """A result that stands for itself and its duplicates. position: among those that were given."""

    position: int
    duplicates: int


def collapse(vectors: np.ndarray, contents: Sequence[Hashable], threshold: float = SAME_PICTURE) -> list[Kept]:
    """Keep the first of each picture, in the order given, and count how often it comes again.

    vectors    (n, d) unit rows
    contents   n content hashes; equal ones are the same picture, whatever their vectors. None: unknown
    threshold  cosine from which on two images are the same picture

    An image belongs to the first one kept that it is like. Compared with the kept alone, so that
    a chain of small changes does not swallow what is unlike its beginning.
    """
    kept: list[int] = []
    counts: list[int] = []
    for position, (vector, content) in enumerate(zip(vectors, contents)):
        alike = vectors[kept] @ vector >= threshold if kept else np.zeros(0, bool)
        for place, other in enumerate(kept):
            if content is not None and contents[other] == content:
                alike[place] = True
        if alike.any():
            counts[int(alike.argmax())] += 1
        else:
            kept.append(position)
            counts.append(0)
    return [Kept(*one) for one in zip(kept, counts)]


class Sets:
    """Items 0..n-1 in disjoint sets, joined by pairs; the lowest item of a set names it."""

    def __init__(self, n: int):
        self._names = np.arange(n)

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Put first[i] and second[i] into one set: int64 (p,) each."""
        names = self._names
        while True:
            one, other = names[first], names[second]
            apart = one != other
            if not apart.any():
                return
            first, second = first[apart], second[apart]
            one, other = one[apart], other[apart]
            np.minimum.at(names, np.maximum(one, other), np.minimum(one, other))
            while True:  # until every item points at its set's name
                followed = names[names]
                if (followed == names).all():
                    break
                names[:] = followed

    def groups(self) -> list[np.ndarray]:
        """The sets of at least two items, each ascending, by their lowest."""
        order = np.argsort(self._names, kind="stable")
        _, starts = np.unique(self._names[order], return_index=True)
        return [members for members in np.split(order, starts[1:]) if len(members) > 1]


def same_contents(contents: Iterable[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (first of a content, another one of it) among items: two int64 (p,)."""
    first: dict[Hashable, int] = {}
    pairs = defaultdict(list)
    for item, content in enumerate(contents):
        if content is None:
            continue
        if content in first:
            pairs[first[content]].append(item)
        else:
            first[content] = item
    owners = [owner for owner, others in pairs.items() for _ in others]
    others = [item for several in pairs.values() for item in several]
    return np.array(owners, np.int64), np.array(others, np.int64)
