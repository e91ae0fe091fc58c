"""Making collections from folders and bringing them up to date."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from filelock import FileLock, Timeout

from retrieval import ingest
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.corpus.folder import Scan, scan
from retrieval.encoders import AUTO, check_same_encoder, load_encoder, load_recorded_encoder
from retrieval.errors import CollectionError, CollectionNotFoundError, CorpusError, SchemaError
from retrieval.manifest import EncoderRecord, Manifest
from retrieval.types import Encoder

LOCK_FILE = "writer.lock"


_OURS = {"manifest.json", "catalog.sqlite", "catalog.sqlite-journal", "vectors", "index.faiss", LOCK_FILE}


class _BusyError(CollectionError):
    """Another process is writing."""


@dataclass(frozen=True)
class Options:
    """How to encode. model None means the collection's own encoder, "auto" for a new one."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = ingest.BATCH_SIZE
    exact_preprocess: bool = False

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """For `load_encoder`."""
        return {"device": self.device, "precision": self.precision, "exact_preprocess": self.exact_preprocess}


@dataclass(frozen=True)
class Watcher:
    """How a run tells how far it is: the number of files to encode, then each batch."""

    on_start: Callable[[int], None] = lambda total: None
    on_batch: ingest.Progress = lambda count: None


@dataclass(frozen=True)
class IndexReport:
    """What one run did. skipped: (path, reason), those of earlier runs included."""

    collection: Path
    encoder: str
    images: int
    encoded: int
    unchanged: int
    dropped: int
    skipped: list[tuple[str, str]]


def index_folders(
    folders: Sequence[Path],
    path: Path,
    options: Options = Options(),
    *,
    rebuild: bool = False,
    watcher: Watcher = Watcher(),
) -> IndexReport:
    """Make a collection of the folders' images at `path`, or bring an existing one up to date.

    Only new and changed files are encoded; documents whose files are gone from the given
    folders are dropped. An interrupted run leaves what it committed, and the next one goes on
    from there. A new collection that would hold no image at all is not left behind.

    rebuild  start anew; the old collection is replaced at the end, and kept on failure

    Raises CorpusError, EncoderError, CollectionError.
    """
    _put_back(path)
    new = _is_vacant(path)
    if not new:
        _require_collection(path, rebuild)
    found = scan(folders)
    if not found.files:
        unchanged = "" if new else f" Nothing was changed in {path}."
        raise CorpusError(_nothing_found(folders, found) + unchanged)
    _require_writable(path)
    if new:
        return _make(path, folders, found, options, watcher)
    if not rebuild:
        return _update(path, found, options, watcher)
    target = _beside(path, "rebuild")
    _require_only_ours(path)
    with _storage_errors(path), _only_writer(path):
        shutil.rmtree(target, ignore_errors=True)
        try:
            report = _make(target, folders, found, options, watcher)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        _swap(target, path)
    return replace(report, collection=path)


def _require_collection(path: Path, rebuild: bool) -> None:
    """Refuse to touch a folder that is not a collection; a rebuild mends one that is damaged."""
    try:
        Manifest.load(path)
    except (CollectionNotFoundError, SchemaError):
        raise
    except CollectionError:
        if not rebuild:
            raise


def _make(
    path: Path, folders: Sequence[Path], found: Scan, options: Options, watcher: Watcher
) -> IndexReport:
    """A new collection at `path`; none if it would stay empty."""
    encoder = load_encoder(options.model or AUTO, **options.encoder_settings)
    was_there = path.exists()
    with _storage_errors(path):
        _create(path, encoder)
    try:
        report = _update(path, found, options, watcher, encoder)
        if not report.images:
            raise CorpusError(_nothing_readable(folders, report.skipped))
    except _BusyError:
        raise  # what another run is writing is not ours to clear away
    except BaseException:
        if _is_empty(path):
            shutil.rmtree(path, ignore_errors=True)
            if was_there:
                path.mkdir()
        raise
    return report


def _create(path: Path, encoder: Encoder) -> None:
    """Whole or not at all: a folder without its manifest would pass for somebody else's."""
    if not _is_vacant(path):  # looked at again, as loading the encoder took its time
        raise CollectionError(
            f"Another `retrieval index` has just made {path}. Run this again, to add to it."
        )
    place = path if path.exists() else _beside(path, "new")  # an empty folder may be a mount
    try:
        if place != path:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        Catalog.create(place).close()
        Manifest(EncoderRecord(encoder.name, encoder.dim, encoder.fingerprint)).save(place)
        if place != path:
            os.rename(place, path)  # fails if another run was faster
    except BaseException:
        if place != path:
            shutil.rmtree(place, ignore_errors=True)
        raise


def _update(
    path: Path, found: Scan, options: Options, watcher: Watcher, encoder: Encoder | None = None
) -> IndexReport:
    with _storage_errors(path), _only_writer(path):
        manifest = Manifest.load(path)
        with Catalog.open(path, writable=True) as catalog:
            plan = ingest.plan(found, catalog.known_files())
            encoder = encoder or _encoder_for(path, manifest, options, bool(plan.to_encode))
            collection = Collection(path, manifest, catalog)
            if plan.gone:
                catalog.forget(plan.gone)
            if plan.to_encode:
                watcher.on_start(len(plan.to_encode))
                ingest.encode_files(
                    plan.to_encode, encoder, catalog, collection.vectors,
                    batch_size=options.batch_size, progress=watcher.on_batch,
                )
            collection.refresh_index()
            failed = catalog.failed()
            tried, bad = {file.state.path for file in plan.to_encode}, {one for one, _ in failed}
            known_bad = (bad - tried) & {file.state.path for file in found.files}
            return IndexReport(
                path, manifest.encoder.name,
                images=len(collection),
                encoded=len(tried - bad),
                unchanged=plan.unchanged - len(known_bad),
                dropped=len(plan.gone),
                skipped=sorted([*found.unreadable, *failed]),
            )


def _encoder_for(
    path: Path, manifest: Manifest, options: Options, needed: bool
) -> Encoder | None:
    """The encoder for an existing collection; not loaded if there is nothing to encode."""
    settings = options.encoder_settings
    if options.model not in (None, AUTO, manifest.encoder.name):
        encoder = load_encoder(options.model, **settings)
        check_same_encoder(manifest.encoder, encoder, str(path))
        return encoder
    return load_recorded_encoder(manifest.encoder, str(path), **settings) if needed else None


def _require_only_ours(path: Path) -> None:
    """A rebuild replaces the folder; what else somebody keeps in it must not go with it."""
    others = [one.name for one in path.iterdir() if one.name not in _OURS and one.suffix != ".tmp"]
    if others:
        raise CollectionError(
            f"{path} holds more than the collection ({sorted(others)[0]}), which a rebuild would "
            "delete. Move that elsewhere, or choose another place with -o COLLECTION."
        )


def _require_writable(path: Path) -> None:
    """Before any long work. Raises CollectionError."""
    if path.absolute() == Path(path.absolute().anchor):
        raise CollectionError(f"{path} cannot be a collection. Choose another place with -o COLLECTION.")
    place = path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise CollectionError(f"{place} cannot be written to. Choose another place with -o COLLECTION.")


def _is_vacant(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _is_empty(path: Path) -> bool:
    try:
        with Catalog.open(path) as catalog:
            return catalog.count("indexed") == 0
    except CollectionError:
        return True  # not even a catalogue was made


def _swap(new: Path, path: Path) -> None:
    old = _beside(path, "old")
    shutil.rmtree(old, ignore_errors=True)
    os.rename(path, old)
    os.rename(new, path)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(path: Path) -> None:
    """Undo a swap that was killed between its two renames."""
    old = _beside(path, "old")
    if not path.exists() and old.exists():
        with _storage_errors(path):
            os.rename(old, path)


def _beside(path: Path, suffix: str) -> Path:
    """A hidden neighbour: what a user keeps beside a collection must not be overwritten."""
    path = Path(os.path.abspath(path))  # "." has no name
    return path.with_name(f".{path.name}.{suffix}")


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    lock = FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _BusyError(
            f"Another `retrieval index` is writing to {path}. Wait for it to finish, then run "
            "this again."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Full disks, missing permissions and the like, in a sentence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CollectionError(
            f"{path} cannot be written: {reason}. What was committed before is kept; choose "
            "another place with -o COLLECTION, or mend the cause and run the same command again."
        ) from error


def _nothing_found(folders: Sequence[Path], found: Scan) -> str:
    names = ", ".join(map(str, folders))
    more = f" {found.unreadable[0][0]} {found.unreadable[0][1]}." if found.unreadable else ""
    return f"No images in {names} (looked for files named .jpg, .png, .webp and the like).{more}"


def _nothing_readable(folders: Sequence[Path], skipped: Sequence[tuple[str, str]]) -> str:
    names = ", ".join(map(str, folders))
    path, reason = skipped[0]
    return (
        f"None of the {len(skipped)} image files in {names} could be read, so no collection was "
        f"made. The first: {path}: {reason}."
    )
