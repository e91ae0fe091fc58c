"""From image files to committed vectors: read and decode in threads, encode, commit.

Threads decode and preprocess a bounded number of images ahead of the encoder, so memory does
not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

from retrieval.catalog import Catalog, Document, FileState
from retrieval.corpus.folder import FoundFile, Scan
from retrieval.errors import ImageError
from retrieval.images import ImageFacts, open_image
from retrieval.types import Encoder
from retrieval.vectors import VectorStore

BATCH_SIZE = 64
DECODE_THREADS = min(32, (os.cpu_count() or 1) + 1)
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """What one run has to do. gone: paths of documents whose files are no longer there."""

    to_encode: list[FoundFile]
    unchanged: int
    gone: list[str]


def plan(found: Scan, known: dict[str, FileState]) -> Plan:
    """Compare a scan with the catalogue's files.

    Only what lies below the roots can be gone, and not what lies below a folder that could not
    be listed.
    """
    paths = {file.state.path for file in found.files}
    to_encode = [file for file in found.files if known.get(file.state.path) != file.state]
    below = tuple(str(root).rstrip(os.sep) + os.sep for root in found.roots)
    roots = {str(root) for root in found.roots}
    unseen = tuple(folder.rstrip(os.sep) + os.sep for folder, _ in found.unreadable)
    gone = [
        path for path in known
        if path not in paths
        and (path in roots or path.startswith(below))
        and not path.startswith(unseen)
    ]
    return Plan(to_encode, len(found.files) - len(to_encode), gone)


def encode_files(
    files: Sequence[FoundFile],
    encoder: Encoder,
    catalog: Catalog,
    store: VectorStore,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress = lambda count: None,
) -> None:
    """Embed files in batches; each batch is committed before the next one starts.

    Files that cannot be read are committed with their reason. Raises OSError on a full disk;
    everything committed before stays.
    """
    ids = _Ids(catalog.ids_by_path())
    prepared = _prepare_ahead(files, encoder, ahead=2 * batch_size)
    for batch in _batches(prepared, batch_size):
        documents = [
            Document(one.file.state, ids.assign(one.file), one.content_hash, one.facts, one.error)
            for one in batch
        ]
        pixels = [one.pixels for one in batch if one.error is None]
        rows: Sequence[int] = ()
        if pixels:
            rows = store.append(encoder.encode_prepared(pixels))
        catalog.commit(documents, rows)
        store.n += len(rows)
        progress(len(batch))


@dataclass(frozen=True)
class _Prepared:
    file: FoundFile
    content_hash: str | None = None
    facts: ImageFacts | None = None
    pixels: Any = None
    error: str | None = None


def _prepare(file: FoundFile, encoder: Encoder) -> _Prepared:
    content_hash = None
    try:
        try:
            content = Path(file.state.path).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror or error}") from error
        content_hash = hashlib.blake2b(content, digest_size=16).hexdigest()
        image, facts = open_image(content, at_least=getattr(encoder, "input_size", None))
        return _Prepared(file, content_hash, facts, encoder.prepare(image))
    except ImageError as error:
        return _Prepared(file, content_hash, error=str(error))


def _prepare_ahead(
    files: Sequence[FoundFile], encoder: Encoder, *, ahead: int
) -> Iterator[_Prepared]:
    waiting: deque[Future[_Prepared]] = deque()
    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode") as pool:
        try:
            for file in files:
                waiting.append(pool.submit(_prepare, file, encoder))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(items: Iterable[_Prepared], size: int) -> Iterator[list[_Prepared]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Ids:
    """Document ids: the path below the root; where two roots clash, more of the path in front."""

    def __init__(self, by_path: dict[str, str]):
        self._by_path = by_path
        self._taken = set(by_path.values())

    def assign(self, file: FoundFile) -> str:
        if file.state.path in self._by_path:
            return self._by_path[file.state.path]
        name = file.relative
        for parent in (file.root, *file.root.parents):
            if name not in self._taken:
                break
            name = f"{parent.name or parent.anchor.strip(os.sep)}/{name}"
        self._taken.add(name)
        self._by_path[file.state.path] = name
        return name
