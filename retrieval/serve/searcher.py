"""One thread owns encoder and index, and answers together what many others ask.

Several texts are encoded in little more time than one. While a batch is being answered the next
one gathers; no query waits for a batch to fill.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Callable, Hashable, Sequence

from retrieval.collection import Collection
from retrieval.errors import QueryError
from retrieval.images.limits import megapixels_of_environment
from retrieval.manifest import Manifest
from retrieval.query import Query, opened
from retrieval.wanted import Wanted
from retrieval.types import Encoder, Hit

log = logging.getLogger("retrieval")

BATCH_QUERIES = 64  # answered at once, or as many as the last request of a batch brings
LOOK_SECONDS = 1.0  # between two looks for a new state of the collection


@dataclass(eq=False)
class _Asked:
    """places: of its queries, among those that are embedded together."""

    queries: Sequence[Query]
    wanted: Wanted
    places: Sequence[int] = ()
    answer: Future[list[list[Hit]]] = field(default_factory=Future)


class Searcher:
    """Answers queries from any thread; a context manager.

    A collection that is updated, compacted or rebuilt meanwhile is opened anew when that is done.

    info  what is being searched: collection, images, encoder and its fingerprint, index (a factory
          string), created_at and generation (which state of the collection)
    """

    info: dict[str, Any]

    def __init__(self, path: Path, *, device: str = "auto", precision: str = "auto"):
        """Load encoder and index. Raises as `Collection.open`, its `load_encoder` and `index` do."""
        self._path = path
        # What others ask is not written down: the encoder is loaded anyway.
        self._how = {"device": device, "precision": precision, "remember_queries": False}
        self._collection: Collection | None = None
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._closing = False
        self._trouble = ""
        ready: Future[None] = Future()
        # OpenMP keeps its threads for each thread that asks, so all work is this one's.
        self._thread = threading.Thread(target=self._work, args=(ready,), daemon=True)
        self._thread.start()
        ready.result()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._asked.put(None)  # wakes it
        self._thread.join()

    def search(self, queries: Sequence[Query], wanted: Wanted = Wanted()) -> Future[list[list[Hit]]]:
        """The hits of each of these queries, as `Collection.answer` finds them, or what it raises."""
        asked = _Asked(queries, wanted)
        self._asked.put(asked)
        return asked.answer

    def opened(self, queries: Sequence[Query]) -> list[Query]:
        """The queries with their images decoded, by the caller's thread.

        Raises QueryError for one that cannot be read, and for too much to hold in memory.
        """
        encoder, megapixels = self._encoder, 0.0

        def decoded(query: Query) -> Query:
            nonlocal megapixels
            query = opened(query, encoder)
            if query.image is not None:
                megapixels += query.image.width * query.image.height / 1e6
                if megapixels > (most := megapixels_of_environment()):
                    raise QueryError(f"The images have more than {most:g} megapixels together; send fewer.")
            return replace(query, terms=tuple((weight, decoded(term)) for weight, term in query.terms))

        return [decoded(query) for query in queries]

    @property
    def _encoder(self) -> Encoder:
        return self._collection.load_encoder()

    def _work(self, ready: Future[None]) -> None:
        try:
            self._open()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        looked = monotonic()
        while not self._closing:
            batch = self._next_batch()
            if monotonic() - looked >= LOOK_SECONDS:
                self._renew()
                looked = monotonic()
            self._answer(batch)
        self._collection.close()

    def _next_batch(self) -> list[_Asked]:
        """Whatever waits by now; after LOOK_SECONDS without any, nothing."""
        batch: list[_Asked] = []
        try:
            asked = self._asked.get(timeout=LOOK_SECONDS)
            while asked is not None:
                if asked.answer.set_running_or_notify_cancel():
                    batch.append(asked)
                if sum(len(one.queries) for one in batch) >= BATCH_QUERIES:
                    break
                asked = self._asked.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _answer(self, batch: Sequence[_Asked]) -> None:
        _together(batch, lambda asked: asked.wanted, self._check)
        _together(batch, lambda asked: (asked.wanted.templates, asked.wanted.fusion), self._embed)

    def _check(self, alike: Sequence[_Asked]) -> None:
        wanted = alike[0].wanted
        k = self._collection.checked_k(wanted.k, wanted.within)
        for asked in alike:
            asked.wanted = replace(wanted, k=k)

    def _embed(self, alike: Sequence[_Asked]) -> None:
        queries = [query for asked in alike for query in asked.queries]
        vectors = self._collection.query_vectors(queries, alike[0].wanted)
        places = iter(range(len(queries)))
        for asked in alike:
            asked.places = [next(places) for _ in asked.queries]

        def find(part: Sequence[_Asked]) -> None:
            self._find(part, vectors[[place for asked in part for place in asked.places]])

        _together(alike, lambda asked: asked.wanted, find)

    def _find(self, alike: Sequence[_Asked], vectors: Any) -> None:
        wanted = alike[0].wanted
        queries = [query for asked in alike for query in asked.queries]
        answers: list[list[Hit]] = [[] for _ in queries]
        if not wanted.where or self._collection.allowed(wanted.where, wanted.within).any():
            answers = self._collection.search_each(queries, vectors, wanted)
        each = iter(answers)
        for asked in alike:
            asked.answer.set_result([next(each) for _ in asked.queries])

    def _open(self) -> None:
        """Open the collection as it is on disk, with the encoder at hand if that is still its own."""
        before, encoder = self._collection, None
        if before and Manifest.load(self._path).encoder == self._manifest.encoder:
            encoder = before.load_encoder()
        collection = Collection.open(self._path, encoder=encoder, **self._how)
        try:
            collection.load_encoder()
            images = len(collection)
            if images:
                collection.index()
        except BaseException:
            collection.close()
            raise
        self._collection, self._manifest = collection, collection.manifest
        self.info = {
            "collection": str(self._path), "images": images,
            "encoder": collection.manifest.encoder.name, "index": collection.manifest.index.spec.factory,
            "fingerprint": collection.manifest.encoder.fingerprint,
            "created_at": collection.manifest.created_at,
            "generation": collection.manifest.index.generation,
        }
        if before:
            before.close()

    def _renew(self) -> None:
        """Open a new state, if there is one. One that cannot be opened leaves the old one served.

        The manifest is written last by all that change a collection, so it tells when they are done.
        """
        try:
            if Manifest.load(self._path) != self._manifest:
                self._open()
            self._trouble = ""
        except Exception as error:  # half-way through a rebuild, damaged, out of memory, ...
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("Still serving the state before: %s", error)


def _together(
    batch: Sequence[_Asked], alike: Callable[[_Asked], Hashable], do: Callable[[Sequence[_Asked]], None]
) -> None:
    """Do something with all those at once that are alike and not answered yet."""
    groups: dict[Hashable, list[_Asked]] = {}
    for asked in batch:
        if not asked.answer.done():
            groups.setdefault(alike(asked), []).append(asked)
    for group in groups.values():
        _apart(group, do)


def _apart(group: Sequence[_Asked], do: Callable[[Sequence[_Asked]], None]) -> None:
    """A query that cannot be asked fails all that is done with it: by halves until only its own asker is told."""
    try:
        do(group)
    except Exception as error:  # of whatever kind: those who asked are told, the thread lives on
        if isinstance(error, QueryError) and len(group) > 1:
            half = len(group) // 2
            _apart(group[:half], do)
            _apart(group[half:], do)
            return
        for asked in group:
            if not asked.answer.done():
                asked.answer.set_exception(error)
