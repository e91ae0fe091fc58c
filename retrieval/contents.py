"""Which contents a catalogue holds already, so that no content is embedded twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Sequence

from retrieval.catalog import Catalog
from retrieval.corpus.addresses import is_missing
from retrieval.corpus.found import FoundImage
from retrieval.documents import Document, Holder


class Contents:
    """The documents that may hold the content of one of these files, by content hash.

    gone  paths of documents whose files are no longer there; a moved file takes one over, and
          what stays here is to be dropped
    """

    def __init__(
        self, files: Sequence[FoundImage], catalog: Catalog, gone: Iterable[str], retry_failed: bool
    ):
        self.gone = set(gone)
        self._found = {file.state.path for file in files}
        self._holders: dict[str, list[Holder]] = {}
        sizes = {file.state.size for file in files}  # others cannot have the same content
        for holder in catalog.holders(sizes) if sizes else ():
            if holder.row is not None or not retry_failed:
                self._holders.setdefault(holder.content_hash, []).append(holder)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._holders

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)

    def holder_for(self, path: str, content_hash: str) -> Holder | None:
        """The best to take from: the file's own document, then one that is free, then any."""
        holders = self._holders.get(content_hash, [])
        own = (holder for holder in holders if holder.path == path)
        free = (holder for holder in holders if self.is_free(holder))
        return next(own, None) or next(free, None) or next(iter(holders), None)

    def is_free(self, holder: Holder) -> bool:
        """Whether its file is gone, wherever it lay."""
        if holder.path in self.gone:
            return True
        return holder.path not in self._found and is_missing(holder.path)

    def take_over(self, holder: Holder, path: str) -> None:
        """The holder's document now belongs to the file at `path`."""
        holders = self._holders[holder.content_hash]
        holders[holders.index(holder)] = replace(holder, path=path)
        self.gone.discard(holder.path)
        self._found.add(path)

    def learn(self, documents: Sequence[Document], rows: Sequence[int]) -> None:
        """Documents that were committed, and the rows of those without an error."""
        remaining = iter(rows)
        for one in documents:
            if one.error is None:
                holder = Holder(one.file.path, one.content_hash, next(remaining), one.facts, None)
                self._holders.setdefault(one.content_hash, []).append(holder)
