"""The best images again, by a larger encoder: slower per image, so only for those in question."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Callable, Protocol, Sequence

import numpy as np

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.images import open_image
from retrieval.query import Query, embed
from retrieval.rank.vector_cache import VectorCache
from retrieval.reading import content_hash
from retrieval.types import Encoder

log = logging.getLogger("retrieval")

DEPTH = 100  # how many of the best are looked at again
CONFIG_FILE = "match.json"  # tells the folder of a cross-encoder


@dataclass(frozen=True)
class Stored:
    """An image of a collection: where it is, and the hash of its content, None where that is not known."""

    path: str
    content: str | None


class Reranker(Protocol):
    """Scores images for a query anew.

    name   what the user called it
    depth  for how many of the best
    """

    name: str
    depth: int

    def scores(self, query: Query, images: Sequence[Stored], first: np.ndarray) -> np.ndarray:
        """(n,) float32, larger is better; nan where an image cannot be read any more.

        first  (n,) what the images came ordered by: scores, less what calibration takes
        """

    def prepared(self, images: Sequence[Stored]) -> list[Stored | None]:
        """The images, their contents known, after all that does not depend on a query was done; None of unreadable ones."""


class EncoderReranker:
    """By the cosines of another encoder, whose image vectors are kept in a cache."""

    def __init__(self, encoder: Encoder, cache: VectorCache, *, depth: int = DEPTH):
        self.name, self.depth = encoder.name, depth
        self._encoder, self._kept = encoder, KeptImages(cache, encoder, encoder.encode_prepared)
        self._last: tuple[Query, np.ndarray] | None = None  # the query asked last, and its vector
        self.prepared = self._kept.prepared

    def scores(self, query: Query, images: Sequence[Stored], first: np.ndarray) -> np.ndarray:
        """As `Reranker.scores`. Raises QueryError for a query image that cannot be read, RerankError."""
        last = self._last
        if last is None or last[0] is not query:  # equal is not enough: its file may have changed
            last = self._last = query, embed([query], self._encoder)[0]
        asked = last[1]
        vectors = self._kept.of(images)
        missing = np.float32(np.nan)
        return np.array([asked @ vectors[one.path] if one.path in vectors else missing for one in images], np.float32)


class KeptImages:
    """What a reranker makes of images: from the cache, or else from their files, and then kept.

    make  takes prepared images and returns float (n, ...)

    Images that cannot be read, or whose file has another content by now, are left out. A warning counts
    them, each once.
    """

    def __init__(self, cache: VectorCache, encoder: Encoder, make: Callable[[list], np.ndarray]) -> None:
        self._cache, self._encoder, self._make = cache, encoder, make
        self._told: set[str] = set()

    def of(self, images: Sequence[Stored]) -> dict[str, np.ndarray]:
        """What is made of each image, by path."""
        return {one.path: made for one, made in self._found(images)}

    def prepared(self, images: Sequence[Stored]) -> list[Stored | None]:
        """As `Reranker.prepared`."""
        known = {one.path: one for one, _ in self._found(images)}
        return [known.get(one.path) for one in images]

    def _found(self, images: Sequence[Stored]) -> list[tuple[Stored, np.ndarray]]:
        """The images that can be had, their contents known, and what is made of them."""
        unreadable: dict[str, str] = {}
        contents: dict[str, str] = {}  # of each path
        for one in images:
            try:
                contents[one.path] = one.content or content_hash(addresses.read(one.path))
            except ImageError as error:
                unreadable[one.path] = str(error)
        found = self._cache.get(list(dict.fromkeys(contents.values())))
        waiting = list({content: path for path, content in contents.items() if content not in found}.items())
        size = getattr(self._encoder, "batch_size", 64)
        for start in range(0, len(waiting), size):
            found |= self._made(waiting[start : start + size], unreadable)
        self._warn(unreadable)
        return [(Stored(path, content), found[content]) for path, content in contents.items() if content in found]

    def _made(self, waiting: list[tuple[str, str]], unreadable: dict[str, str]) -> dict[str, np.ndarray]:
        """Of (content, path) each, by content. Those that are not are added to the unreadable, path -> why."""
        prepared, contents = [], []
        for hashed, path in waiting:
            try:
                content = addresses.read(path)
                if content_hash(content) != hashed:
                    raise ImageError("has changed since it was indexed")
                image, _ = open_image(content, at_least=getattr(self._encoder, "input_size", None))
            except ImageError as error:
                unreadable[path] = str(error)
                continue
            prepared.append(self._encoder.prepare(image))
            contents.append(hashed)
        if not prepared:
            return {}
        # Rounded as the cache rounds, so that the first time gives what later ones will.
        made = dict(zip(contents, self._make(prepared).astype(np.float16).astype(np.float32)))
        self._cache.put(made)
        return made

    def _warn(self, unreadable: dict[str, str]) -> None:
        new = [path for path in unreadable if path not in self._told]
        if new:
            log.warning(
                "%d images cannot be read again and come after the others; the first is %s: %s.",
                len(new), new[0], unreadable[new[0]],
            )
            self._told.update(new)


def reranked(scores: np.ndarray, again: np.ndarray) -> np.ndarray:
    """The order after a second look: by `again`, then those without it, then the rest as they were.

    scores  (n,) first scores, best first
    again   (m,) second scores of the first m <= n; nan where there is none

    Returns positions int64 (n,). Equal second scores keep their first order.
    """
    looked_at = np.argsort(np.where(np.isnan(again), np.inf, -again), kind="stable")
    return np.concatenate([looked_at, np.arange(len(again), len(scores))]).astype(np.int64)
