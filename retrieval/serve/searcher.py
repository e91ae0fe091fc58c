"""One thread owns encoder and index, and answers together what many others ask.

Several texts are encoded in little more time than one. While a batch is being answered the next
one gathers; no query waits for a batch to fill.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Sequence

from retrieval.collection import Collection
from retrieval.conditions import Condition
from retrieval.manifest import Manifest
from retrieval.query import Query, opened
from retrieval.wanted import Wanted
from retrieval.types import Encoder, Hit

log = logging.getLogger("retrieval")

BATCH_QUERIES = 64  # answered at once, or as many as the last request of a batch brings
LOOK_SECONDS = 1.0  # between two looks for a new state of the collection
UPLOADED = "(uploaded)"  # what results call an image that has no name


@dataclass(frozen=True)
class _Asked:
    queries: Sequence[Query]
    k: int | None
    where: Condition | None = None
    answer: Future[list[Hit]] = field(default_factory=Future)


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

    def search(
        self, queries: Sequence[Query], k: int | None = None, where: Condition | None = None
    ) -> Future[list[Hit]]:
        """What `Collection.search` returns for these queries, or raises."""
        asked = _Asked(queries, k, where)
        self._asked.put(asked)
        return asked.answer

    def image_query(self, content: bytes) -> Query:
        """The query for an image file's content, decoded by the caller's thread. Raises QueryError."""
        return opened(Query(UPLOADED, content), self._encoder)

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

    def _answer(self, batch: list[_Asked]) -> None:
        alike: dict[tuple[int | None, Condition | None], list[_Asked]] = {}
        for asked in batch:
            alike.setdefault((asked.k, asked.where), []).append(asked)
        groups: list[tuple[int, Condition | None, list[_Asked]]] = []
        for (k, where), group in alike.items():
            try:
                groups.append((self._collection.checked_k(k), where, group))
            except Exception as error:
                _tell(group, error)
        try:
            queries = [query for *_, group in groups for asked in group for query in asked.queries]
            vectors = self._collection.query_vectors(queries)
            for k, where, group in groups:
                of_group = [query for asked in group for query in asked.queries]
                wanted = Wanted(k, where=where)
                answers = iter(self._collection.search_each(of_group, vectors[: len(of_group)], wanted))
                vectors = vectors[len(of_group) :]
                for asked in group:
                    asked.answer.set_result([hit for _ in asked.queries for hit in next(answers)])
        except Exception as error:  # of whatever kind: those who asked are told, the thread lives on
            for *_, group in groups:
                _tell(group, error)

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


def _tell(group: Sequence[_Asked], error: Exception) -> None:
    for asked in group:
        if not asked.answer.done():
            asked.answer.set_exception(error)
