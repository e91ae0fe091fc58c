"""From image files to committed vectors: read, encode what is new, commit batch by batch.

What a file is, is its content: a file that was touched, moved or copied is recognised by its
hash and takes over the vector that is there.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from retrieval.catalog import Catalog
from retrieval.contents import Contents
from retrieval.corpus.addresses import is_passed_over, starts_within
from retrieval.corpus.found import INSIDE, FoundImage, Scan, distinct_name
from retrieval.documents import Document, FileState, Takeover
from retrieval.reading import EncoderOnDemand, ReadFile, Rhythm, read_ahead
from retrieval.vectors import VectorStore

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """What one run has to do.

    to_read     files that are new, or of another size or time, or to be tried again
    to_caption  files as they were, of which something else is said
    gone        paths of documents whose files are no longer there
    """

    to_read: list[FoundImage]
    to_caption: list[FoundImage]
    unchanged: int
    gone: list[str]


def plan(
    found: Scan,
    known: dict[str, FileState],
    again: Iterable[str] = (),
    captions: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Plan:
    """Compare a scan with the catalogue's files, and with their captions.

    again  paths to read though unchanged

    Only what lies below the roots can be gone; not what could not be looked at or lies below a
    folder that could not be listed, and not what looking through folders passes over: frames of
    videos, and within them members of archives, and files and links without a suffix.
    """
    again = set(again)
    paths = {file.state.path for file in found.images}
    to_read = [
        file for file in found.images
        if known.get(file.state.path) != file.state or file.state.path in again
    ]
    reading = {file.state.path for file in to_read}
    to_caption = [
        file for file in found.images
        if file.state.path not in reading and file.captions not in (None, captions.get(file.state.path, ()))
    ]
    roots = set(found.roots)
    below = starts_within(roots)
    unseen = {place for place, _ in found.unreadable}
    below_unseen = starts_within(unseen)
    videos = {video.state.path for video in found.videos}
    gone = [
        path for path in known
        if path not in paths
        and (path in roots or path.startswith(below))
        and path not in unseen and not path.startswith(below_unseen)
        and path.rpartition(INSIDE)[0] not in videos
        and not is_passed_over(path, roots)
    ]
    return Plan(to_read, to_caption, len(found.images) - len(to_read), gone)


@dataclass
class Outcome:
    """What became of the files of a run. stopped: it was asked to, before the last file.

    encoded  had new content
    moved    took over the document of a file that is gone
    reused   have a copy of the vector of another file with the same content
    same     still have the content on record, in spite of another time
    dropped  documents whose files are gone
    """

    encoded: int = 0
    moved: int = 0
    reused: int = 0
    same: int = 0
    dropped: int = 0
    stopped: bool = False


def encode_files(
    files: Sequence[FoundImage],
    encoder: EncoderOnDemand,
    catalog: Catalog,
    store: VectorStore,
    *,
    gone: Iterable[str] = (),
    retry_failed: bool = False,
    batch_size: int | None = None,
    progress: Progress = lambda count: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Embed files in batches; each batch is committed before the next one starts.

    Content that the catalogue holds is not embedded again, and the encoder is loaded only for
    content that it does not. Files that cannot be read are committed with their reason.

    batch_size    images committed at once, at most; None: as many as the encoder's device likes
    gone          paths of documents whose files are no longer there; dropped at the end, unless
                  a moved file took them over
    retry_failed  decode once more what could not be read before
    stop          asked now and then; once true, the batch in hand is committed and is the last

    Raises EncoderError, OSError on a full disk; everything committed before stays.
    """
    outcome, done = Outcome(), 0
    contents, ids = Contents(files, catalog, gone, retry_failed), _Ids(catalog.ids_by_path())
    rhythm = Rhythm(batch_size or encoder.batch_size)
    ahead = read_ahead(files, contents, encoder, ahead=lambda: 2 * rhythm.most)
    with closing(ahead):  # an error or interrupt ends what is still being read
        for read in rhythm.batches(ahead, stop):
            batch = _Batch()
            for one in read:
                batch.add(one, contents, ids)
            rows: Sequence[int] = ()
            if batch.sources:
                begun = monotonic()
                vectors = batch.vectors(encoder, store)
                rhythm.most = batch_size or encoder.batch_size
                rhythm.encoded(len(batch.new), monotonic() - begun)
                rows = store.append(vectors)
            catalog.commit(batch.documents, rows, batch.takeovers)
            store.n += len(rows)
            contents.learn(batch.documents, rows)
            outcome.encoded += len(batch.new)
            outcome.reused += len(batch.sources) - len(batch.new)
            outcome.moved += batch.moved
            outcome.same += batch.same
            done += len(read)
            progress(len(read))
    outcome.stopped = done < len(files)
    if contents.gone and not outcome.stopped:
        catalog.forget(contents.gone)
        outcome.dropped = len(contents.gone)
    return outcome


def change_captions(files: Sequence[FoundImage], catalog: Catalog) -> None:
    """Of documents whose files are as they were. None is read: a link may be dead by now."""
    ids = catalog.ids_by_path()
    catalog.commit([], [], [
        Takeover(file.state.path, file.state, ids[file.state.path], file.captions) for file in files
    ])


def encode_captions(
    texts: Sequence[str],
    encoder: EncoderOnDemand,
    catalog: Catalog,
    store: VectorStore,
    *,
    batch_size: int | None = None,
    progress: Progress = lambda count: None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Embed texts, distinct and without a vector, in batches that are committed one by one.

    Says how many; fewer than there are if it was asked to stop. Raises as `encode_files` does.
    """
    done, rhythm = 0, Rhythm(batch_size or encoder.batch_size)
    for batch in rhythm.batches(texts, stop):
        begun = monotonic()
        vectors = encoder().encode_texts(batch)
        rhythm.encoded(len(batch), monotonic() - begun)
        rows = store.append(vectors)
        catalog.commit_texts(batch, rows)
        store.n += len(rows)
        done += len(batch)
        progress(len(batch))
    return done


class _Batch:
    """What one transaction will write. sources: where each new row comes from, a content hash
    that is to be embedded, or the row to copy."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.sources: list[str | int] = []
        self.new: dict[str, Any] = {}  # content hash -> pixels
        self.takeovers: list[Takeover] = []
        self.moved = self.same = 0

    def add(self, one: ReadFile, contents: Contents, ids: _Ids) -> None:
        file, content, captions = one.file.state, one.content_hash, one.file.captions
        holder = contents.holder_for(file.path, content) if content else None
        if holder and holder.path == file.path:
            self.takeovers.append(Takeover(file.path, file, ids.assign(one.file), captions))
            self.same += holder.row is not None
        elif holder and contents.is_free(holder):
            contents.take_over(holder, file.path)
            ids.release(holder.path)
            self.takeovers.append(Takeover(holder.path, file, ids.assign(one.file), captions))
            self.moved += holder.row is not None
        elif holder:
            self.documents.append(
                Document(file, ids.assign(one.file), content, holder.facts, holder.error, captions)
            )
            if holder.row is not None:
                self.sources.append(holder.row)
        else:
            self.documents.append(
                Document(file, ids.assign(one.file), content, one.facts, one.error, captions)
            )
            if one.error is None:
                self.sources.append(content)
                self.new.setdefault(content, one.pixels)

    def vectors(self, encoder: EncoderOnDemand, store: VectorStore) -> np.ndarray:
        """Of each source: (n, d)."""
        encoded = encoder().encode_prepared(list(self.new.values())) if self.new else ()
        by_content = dict(zip(self.new, encoded))
        return np.stack([
            store[source : source + 1][0] if isinstance(source, int) else by_content[source]
            for source in self.sources
        ])


class _Ids:
    """Document ids: distinct names of the images."""

    def __init__(self, by_path: dict[str, str]):
        self._by_path = by_path
        self._taken = set(by_path.values())

    def release(self, path: str) -> None:
        """The document at `path` is another's now."""
        self._taken.discard(self._by_path.pop(path))

    def assign(self, file: FoundImage) -> str:
        if file.state.path in self._by_path:
            return self._by_path[file.state.path]
        name = distinct_name(file, self._taken)
        self._taken.add(name)
        self._by_path[file.state.path] = name
        return name
