"""From queries to vectors: what is stored is looked up, what was asked before is remembered, and
only for the rest is the encoder loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np

from retrieval.catalog import Catalog
from retrieval.errors import QueryError
from retrieval.fusion import fuse
from retrieval.query import Query
from retrieval.query_cache import QueryCache
from retrieval.types import SUM
from retrieval.vectors import VectorStore


class QueryVectors:
    """Of one collection's space.

    encode  texts and images -> vectors (q, d), as `retrieval.query.embed`; loads an encoder if need be
    stored  ids -> vectors (d,) of these documents; raises QueryError if one is not there
    cache   None remembers nothing
    how     what vectors of texts depend on beside encoder and text
    """

    def __init__(
        self, dim: int, encode: Callable[[Sequence[Query]], np.ndarray],
        stored: Callable[[Sequence[str]], Mapping[str, np.ndarray]], cache: QueryCache | None, how: str = "",
    ):
        self._dim, self._encode, self._stored, self._cache, self._how = dim, encode, stored, cache, how

    def of(self, queries: Sequence[Query], fusion: str = SUM) -> np.ndarray:
        """Query vectors float32 (q, d), unit rows, in order.

        fusion  of composed queries; see `retrieval.fusion.fuse`

        Raises QueryError for a bad image, an id that is not there, or terms that leave nothing.
        """
        singles = [single for query in queries for single in _singles(query)]
        vectors = iter(self._of_singles(singles))
        fused = [self._fused(query, vectors, fusion) for query in queries]
        return np.stack(fused) if fused else np.empty((0, self._dim), np.float32)

    def _fused(self, query: Query, vectors: Iterator[np.ndarray], fusion: str) -> np.ndarray:
        if not query.terms:
            return next(vectors)
        of_terms = np.stack([next(vectors) for _ in query.terms])
        try:
            return fuse(of_terms, np.array([weight for weight, _ in query.terms]), query.fusion or fusion)
        except QueryError as error:
            raise QueryError(f"{query.shown}: {error}") from error

    def _of_singles(self, queries: Sequence[Query]) -> list[np.ndarray]:
        ids = [query.document for query in queries if query.document is not None]
        stored = self._stored(ids) if ids else {}
        queries = [_with_content(query) for query in queries]
        keys = [self._key(query) for query in queries]
        known = self._cache.get(set(keys) - {None}) if self._cache else {}
        found = [stored[query.document] if query.document is not None else known.get(key)
                 for query, key in zip(queries, keys)]
        new: dict[object, list[int]] = {}  # what is asked several times is embedded once
        for place, (query, key) in enumerate(zip(queries, keys)):
            if found[place] is None:
                new.setdefault(key or (query.shown, id(query.image)), []).append(place)
        if new:
            encoded = self._encode([queries[place] for place, *_ in new.values()])
            for places, vector in zip(new.values(), encoded):
                for place in places:
                    found[place] = vector
            if self._cache:
                self._cache.put({keys[place]: found[place] for place, *_ in new.values() if keys[place]})
        return found

    def _key(self, query: Query) -> bytes | None:
        """None for what is stored anyway, and for a picture that is no file."""
        if self._cache is None or query.document is not None:
            return None
        if query.image is None:
            return self._cache.key(f"text{self._how}", query.shown)
        return self._cache.key("image", query.image) if isinstance(query.image, bytes) else None


def stored_vectors(
    collection: Path, catalog: Catalog, vectors: VectorStore, ids: Sequence[str]
) -> dict[str, np.ndarray]:
    """Vectors float32 (d,) of documents by their ids. Raises QueryError if one has none, or is not there."""
    rows = catalog.rows_of_ids(ids)
    for id in ids:
        if id not in rows:
            similar = catalog.id_ending_in(id.rpartition("/")[2])
            meant = f"Did you mean id:{similar}?" if similar else (
                'Ids are paths below the folder that was indexed; one with + or - between spaces goes in quotes: id:"a - b.jpg".'
            )
            raise QueryError(f"There is no image with the id {id} in {collection}. {meant}")
        if rows[id] is None:
            raise QueryError(f"The image {id} in {collection} could not be read, so it has no vector to search by.")
    return dict(zip(ids, vectors.take(np.array([rows[id] for id in ids]))))


def _singles(query: Query) -> Iterator[Query]:
    yield from (single for _, single in query.terms) if query.terms else (query,)


def _with_content(query: Query) -> Query:
    """The same with its file read; one that cannot be read is left to the encoder's complaint."""
    if not isinstance(query.image, Path):
        return query
    try:
        return replace(query, image=query.image.read_bytes())
    except OSError:
        return query
