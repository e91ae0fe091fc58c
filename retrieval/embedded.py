"""Embeddings of folders, kept in the cache: for commands that measure a model rather than search.

    <cache>/benchmarks/flowers-1f0c62d9a4be.collection    one per folders, model and precision
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

from filelock import FileLock, Timeout

from retrieval.collection import Collection
from retrieval.encoders import AUTO
from retrieval.errors import (
    NOTICE, CollectionError, CollectionNotFoundError, EncoderMismatchError, SchemaError, WeightsError,
)
from retrieval.files import cache_folder
from retrieval.maintain import Options, Watcher, index_sources

log = logging.getLogger("retrieval")
_NAME_LENGTH = 60


def open_embedded(
    folders: Sequence[Path],
    model: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    exact_preprocess: bool = False,
    watcher: Watcher = Watcher(),
) -> Collection:
    """Open the kept collection of the folders' images under this model, brought up to date.

    The first run embeds every image; a later one what is new or changed, and drops what is gone.
    A document's id is its path below its folder; paths are resolved, links included. Where the
    model's weights have changed, or the kept collection is damaged, all is embedded anew. Of
    several runs at once one embeds and the others wait for it. The encoder is loaded already.

    folders  at least one; of several, see `retrieval.maintain.index_sources`
    model    a name as for `retrieval.encoders.load_encoder`; None and "auto" are the same choice

    Raises CorpusError, EncoderError, CollectionError. The caller closes the collection.
    """
    # Links resolved: a folder under two names would be two documents per image.
    folders = [Path(os.path.realpath(folder)) for folder in folders]
    options = Options(model or AUTO, device, precision, batch_size, exact_preprocess)
    path = _kept_at(folders, options)
    with _one_at_a_time(path, folders):
        was_there = path.exists()
        damaged = _is_damaged(path)
        try:
            index_sources(folders, path, options, rebuild=damaged, watcher=watcher)
            return _opened(path, options)
        except (EncoderMismatchError, WeightsError):
            if not was_there:
                raise
            log.log(NOTICE, "%s is no longer what was kept for %s; embedding anew.", options.model, folders[0])
            index_sources(folders, path, options, rebuild=True, watcher=watcher)
            return _opened(path, options)


def _kept_at(folders: Sequence[Path], options: Options) -> Path:
    # Asking for a precision, or for exact preprocessing, is asking what difference it makes: it
    # must not get other vectors.
    wanted = [] if options.precision == "auto" else [options.precision]
    wanted += ["exact-preprocess"] if options.exact_preprocess else []
    key = "\0".join([*map(str, folders), str(options.model), *wanted])
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:12]
    name = folders[0].name[:_NAME_LENGTH] or "images"
    return cache_folder() / "benchmarks" / f"{name}-{digest}.collection"


def _opened(path: Path, options: Options) -> Collection:
    """With its encoder, which is checked against the vectors. Raises EncoderMismatchError."""
    collection = Collection.open(path, device=options.device, precision=options.precision)
    try:
        collection.load_encoder()
    except BaseException:
        collection.close()
        raise
    return collection


def _is_damaged(path: Path) -> bool:
    try:
        Collection.open(path).close()
    except (CollectionNotFoundError, SchemaError):
        return False  # nothing there yet, or not ours to replace
    except CollectionError:
        return True
    return False


@contextmanager
def _one_at_a_time(path: Path, folders: Sequence[Path]) -> Iterator[None]:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.log(NOTICE, "Another run is embedding %s; waiting for it.", folders[0])
            lock.acquire()
    except OSError as error:
        raise CollectionError(
            f"{path.parent} cannot be written: {error.strerror or error}. Embeddings are kept there; "
            "set RETRIEVAL_CACHE to a folder that can be written."
        ) from error
    try:
        yield
    finally:
        lock.release()
