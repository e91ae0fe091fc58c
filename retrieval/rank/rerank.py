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


class EncoderReranker:
    """By the cosines of another encoder, whose image vectors are kept in a cache."""

    def __init__(self, encoder: Encoder, cache: VectorCache, *, depth: int = DEPTH):
        self.name, self.depth = encoder.name, depth
        self._encoder, self._cache = encoder, cache
        self._told: set[str] = set()
        self._last: tuple[Query, np.ndarray] | None = None  # the query asked last, and its vector

    def scores(self, query: Query, images: Sequence[Stored], first: np.ndarray) -> np.ndarray:
        """As `Reranker.scores`. Raises QueryError for a query image that cannot be read, RerankError."""
        last = self._last
        if last is None or last[0] is not query:  # equal is not enough: its file may have changed
            last = self._last = query, embed([query], self._encoder)[0]
        asked = last[1]
        vectors = recalled(images, self._cache, self._encoder, self._encoder.encode_prepared, self._told)
        missing = np.float32(np.nan)
        return np.array([asked @ vectors[one.path] if one.path in vectors else missing for one in images], np.float32)


def recalled(
    images: Sequence[Stored], cache: VectorCache, encoder: Encoder, embed_prepared: Callable[[list], np.ndarray],
    told: set[str],
) -> dict[str, np.ndarray]:
    """What `embed_prepared` makes of each image, by path, from the cache where it is there.

    told  paths that were warned of before, and are so no more; those new here are added

    Images that cannot be read, or whose file has another content by now, are left out, with one warning
    that counts them.
    """
    unreadable: dict[str, str] = {}
    hashes: dict[str, str] = {}  # of each path
    for one in images:
        try:
            hashes[one.path] = one.content or content_hash(addresses.read(one.path))
        except ImageError as error:
            unreadable[one.path] = str(error)
    found = cache.get(list(dict.fromkeys(hashes.values())))
    waiting = list({content: path for path, content in hashes.items() if content not in found}.items())
    size = getattr(encoder, "batch_size", 64)
    for start in range(0, len(waiting), size):
        prepared, contents = [], []
        for hashed, path in waiting[start : start + size]:
            try:
                content = addresses.read(path)
                if content_hash(content) != hashed:
                    raise ImageError("has changed since it was indexed")
                image, _ = open_image(content, at_least=getattr(encoder, "input_size", None))
            except ImageError as error:
                unreadable[path] = str(error)
                continue
            prepared.append(encoder.prepare(image))
            contents.append(hashed)
        if prepared:
            # Rounded as the cache rounds, so that the first time gives what later ones will.
            vectors = embed_prepared(prepared).astype(np.float16).astype(np.float32)
            new = dict(zip(contents, vectors))
            cache.put(new)
            found.update(new)
    new_ones = [path for path in unreadable if path not in told]
    if new_ones:
        log.warning(
            "%d images cannot be read again and come after the others; the first is %s: %s.",
            len(new_ones), new_ones[0], unreadable[new_ones[0]],
        )
        told.update(new_ones)
    return {path: found[content] for path, content in hashes.items() if content in found}


def reranked(scores: np.ndarray, again: np.ndarray) -> np.ndarray:
    """The order after a second look: by `again`, then those without it, then the rest as they were.

    scores  (n,) first scores, best first
    again   (m,) second scores of the first m <= n; nan where there is none

    Returns positions int64 (n,). Equal second scores keep their first order.
    """
    looked_at = np.argsort(np.where(np.isnan(again), np.inf, -again), kind="stable")
    return np.concatenate([looked_at, np.arange(len(again), len(scores))]).astype(np.int64)
