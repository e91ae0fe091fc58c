"""Searching a collection: queries become vectors, vectors find rows, and rows become hits.

What lies in its folder, and how that is read while others write: `retrieval.stored`.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np

from indexes import Matches
from retrieval import query
from retrieval.catalog import Catalog
from retrieval.conditions import Condition
from retrieval.encoders import check_same_encoder, load_recorded_encoder, load_recorded_text_tower
from retrieval.errors import QueryError
from retrieval.manifest import Manifest
from retrieval.query_cache import QueryCache
from retrieval.query_vectors import QueryVectors, stored_vectors
from retrieval.rank.relevance import RelevanceModel, relevance_model
from retrieval.rank.rerank import Reranker
from retrieval.rank.rerankers import load_reranker
from retrieval.rank.templates import in_sentences
from retrieval.results import Results
from retrieval.searching import Nearest, found_hits, refined_hits
from retrieval.stored import StoredCollection
from retrieval.types import CAPTIONS, IMAGES, SUM, Encoder, Hit, TextEncoder
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import every

DEFAULT_K = 10
FEW_TEXTS = 64  # are embedded sooner without torch than it is imported


class Collection(StoredCollection):
    """Open one with `Collection.open`; make or update one with `index_sources`."""

    def __init__(
        self, path: Path, manifest: Manifest, catalog: Catalog, *, encoder: Encoder | None = None,
        device: str = "auto", precision: str = "auto", remember_queries: bool = True,
    ):
        super().__init__(path, manifest, catalog, device=device)
        self._encoder = encoder
        self._text_tower: TextEncoder | None = None
        self._precision = precision
        self._remembers_queries = remember_queries
        self._query_cache: QueryCache | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: Encoder | None = None,
        device: str = "auto",
        precision: str = "auto",
        remember_queries: bool = True,
    ) -> Collection:
        """Open for searching, at the last committed state.

        encoder            use this one instead of loading the one on record; it must be the same
        device, precision  as for `load_encoder`; device "cpu" keeps the index there as well
        remember_queries   keep vectors of queries in the collection; see `retrieval.query_cache`

        Raises CollectionNotFoundError, SchemaError, CollectionError, EncoderMismatchError.
        """
        path = Path(path)
        manifest = Manifest.load(path)
        if encoder is not None:
            check_same_encoder(manifest.encoder, encoder, str(path))
        catalog = Catalog.open(path)
        try:
            return cls(
                path, manifest, catalog, encoder=encoder, device=device, precision=precision,
                remember_queries=remember_queries,
            )
        except BaseException:
            catalog.close()
            raise

    def close(self) -> None:
        if self._query_cache is not None:
            self._query_cache.close()
        self.catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load_encoder(self) -> Encoder:
        """The encoder that made this collection, loaded once. Raises EncoderMismatchError."""
        if self._encoder is None:
            self._encoder = load_recorded_encoder(
                self.manifest.encoder, str(self.path), device=self._device, precision=self._precision
            )
        return self._encoder

    def encoder_for(self, queries: Sequence[query.Query]) -> Encoder | TextEncoder:
        """What embeds these queries: for a few texts the text tower alone, where that takes no torch."""
        if self._encoder is None and len(queries) <= FEW_TEXTS and all(one.image is None for one in queries):
            if self._text_tower is None:
                self._text_tower = load_recorded_text_tower(
                    self.manifest.encoder, device=self._device, precision=self._precision
                )
            if self._text_tower is not None:
                return self._text_tower
        return self.load_encoder()

    def search(
        self,
        queries: str | PathLike | query.Query | Sequence[str | PathLike | query.Query],
        k: int | None = None,
        *,
        within: str = IMAGES,
        where: str | Condition | None = None,
        near: tuple[float, float, float] | None = None,
        fusion: str = SUM,
        templates: str = AUTO,
        calibrated: bool = True,
        min_score: float | str | None = None,
        dedup: float | bool | None = None,
        diverse: float | bool | None = None,
        rerank: Reranker | str | None = None,
    ) -> Results:
        """The k best matches of each query, best first, query after query.

        queries     texts, paths of image files (as text or Path), or several terms: see `retrieval.query_grammar`
        k           1..how many there are; None means 10, or all if there are fewer
        within      IMAGES, or CAPTIONS: captions that sources gave, if they are embedded
        where       only images of which this is true; see `retrieval.where`. Fewer than k are found
                    where fewer are
        near        (latitude, longitude, kilometres): only images taken within that distance
        fusion      of terms: "sum", "product" or "slerp"; see `retrieval.fusion.fuse`
        templates   ON, OFF or AUTO: put short queries into sentences; see `retrieval.rank.templates`
        calibrated  text queries for images, if the collection is: the order is then that of scores
                    less a bias of each image, and the scores shown, which are cosines, need not descend
        min_score   leave out images that score lower; AUTO: those that are likely not meant at all
        dedup       cosine from which on images are one picture, which comes once; True: 0.93
        diverse     weight of the score, 0 to 1, against being unlike the images before; True: 0.7
        rerank      looks at the best images again, or its name; see `retrieval.rank.rerankers`

        Raises QueryError, RerankError, and EncoderError for a name to rerank by.
        """
        single = isinstance(queries, str | bytes | PathLike | query.Query) or not isinstance(queries, Iterable)
        parsed = [query.asked(one) for one in ([queries] if single else queries)]
        if isinstance(rerank, str):
            rerank = self.reranker(rerank)
        wanted = Wanted(
            k, within, every(where, near_to=near), fusion, templates, calibrated,
            Refinement(min_score, dedup, diverse, rerank),
        )
        return self.answer(parsed, wanted)

    def answer(self, queries: Sequence[query.Query], wanted: Wanted) -> Results:
        """`search` for parsed queries."""
        wanted = replace(wanted, k=self.checked_k(wanted.k, wanted.within))
        if wanted.where and not self.allowed(wanted.where, wanted.within).any():
            return Results()  # for which no encoder has to be loaded
        vectors = self.query_vectors(queries, wanted)
        return Results(hit for hits in self.search_each(queries, vectors, wanted) for hit in hits)

    def reranker(self, name: str) -> Reranker:
        """What `search` may look at results again with. Raises EncoderError, RerankError."""
        return load_reranker(name, self.load_encoder(), device=self._device, precision=self._precision)

    def query_vectors(self, queries: Sequence[query.Query], wanted: Wanted = Wanted()) -> np.ndarray:
        """Vectors of parsed queries, float32 (q, d), unit rows. Raises QueryError."""
        encoder = self.manifest.encoder
        if self._remembers_queries and self._query_cache is None:
            self._query_cache = QueryCache(self.path, f"{encoder.fingerprint} {self._precision}", encoder.dim)

        def encode(new: Sequence[query.Query]) -> np.ndarray:
            return query.embed(new, self.encoder_for(new))

        found = QueryVectors(encoder.dim, encode, self._stored, self._query_cache)
        return found.of(in_sentences(queries, encoder.name, wanted.templates), wanted.fusion)

    def _stored(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        return self.undisturbed(lambda: stored_vectors(self.path, self.catalog, self.vectors, ids))

    def checked_k(self, k: int | None, within: str = IMAGES) -> int:
        """Raises QueryError unless k is a whole number in 1..how many there are to find."""
        if k is not None and (isinstance(k, bool) or not isinstance(k, Integral)):
            raise QueryError(f"k is {k!r}; give a whole number.")
        self._index_record(within)
        n = len(self) if within == IMAGES else self._once_per_commit(within, lambda: self.catalog.captions.counts()[1])
        if n == 0:
            add = "Add some" if within == IMAGES else "Index a source that has some"
            raise QueryError(f"{self.path} holds no {within} yet. {add}: retrieval index SOURCE -o {self.path}")
        if k is None:
            return min(DEFAULT_K, n)
        if k < 1:
            raise QueryError(f"k is {k}; ask for at least 1 result.")
        if k > n:
            raise QueryError(f"k is {k}, but {self.path} holds {n} {within}; ask for at most {n}.")
        return int(k)

    def search_vectors(self, shown: Sequence[str], vectors: np.ndarray, k: int, *, within: str = IMAGES) -> list[Hit]:
        """What is nearest to vectors (q, d), float32 unit rows, whatever they are of. shown: q names."""
        queries = [query.Query(name) for name in shown]
        each = self.search_each(queries, vectors, Wanted(k, within, calibrated=False))
        return [hit for hits in each for hit in hits]

    def search_each(self, queries: Sequence[query.Query], vectors: np.ndarray, wanted: Wanted) -> list[list[Hit]]:
        """The hits of each of q queries by its vector (q, d); wanted.k is what `checked_k` returned."""
        def find() -> list[list[Hit]]:
            nearest = self._nearest(wanted)
            if wanted.refinement:
                return refined_hits(
                    nearest, self.vectors, self.catalog, queries, vectors, wanted, self._relevance(wanted.refinement),
                )
            return found_hits(nearest, self._owners, queries, vectors, wanted)

        return self.undisturbed(find)

    def _nearest(self, wanted: Wanted) -> Nearest:
        index = self.index(wanted.within)  # first: it may open the vectors anew
        biases = self.biases() if wanted.calibrated and wanted.within == IMAGES else None
        allowed = wanted.where and self.allowed(wanted.where, wanted.within)
        return Nearest(index, biases, allowed, lambda: self.allowed(None, wanted.within))

    def _owners(self, rows: Sequence[int], wanted: Wanted) -> dict[int, list[tuple[str, ...]]]:
        """Vector row -> whose it is: (id, path), and the caption if captions are wanted."""
        if wanted.within == CAPTIONS:
            return {row: [*found] for row, found in self.catalog.captions.of_rows(rows, wanted.where).items()}
        return {row: [one] for row, one in self.catalog.documents_of_rows(rows).items()}

    def _relevance(self, how: Refinement) -> RelevanceModel | None:
        if how.min_score is None:
            return None
        return self._once_per_commit("relevance", lambda: relevance_model(self._search_live, self.encoder_for(())))

    def _search_live(self, vectors: np.ndarray, k: int) -> Matches:
        index, live = self.index(), self.allowed(None)  # the index is as it was when it was opened
        return index.search(vectors, k, allowed=None if live.sum() == index.n else live)
