"""Writing collections: by one at a time, only where it is wanted, with errors in a sentence."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

from retrieval.calibration import FOLDER as CALIBRATION
from retrieval.catalog import Catalog
from retrieval.errors import CollectionError, CollectionNotFoundError, SchemaError
from retrieval.files import sync_folder
from retrieval.fused import FILE_NAME as FUSED_FILE
from retrieval.indexed import INDEX_FILES
from retrieval.manifest import SCHEMA_VERSION, EncoderRecord, Manifest
from retrieval.query_cache import FILE_NAME as QUERIES_FILE
from retrieval.tuning import GENERIC_FILE
from retrieval.types import Encoder
from retrieval.vectors import vectors_folders

LOCK_FILE = "writer.lock"
_OURS = {
    "manifest.json", "catalog.sqlite", "catalog.sqlite-journal", *INDEX_FILES.values(), LOCK_FILE,
    CALIBRATION, FUSED_FILE, QUERIES_FILE, f"{QUERIES_FILE}-journal", GENERIC_FILE,
}


class BusyError(CollectionError):
    """Another process is writing."""


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keep other writers out. Raises BusyError at once if one is in."""
    lock = FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"Another `retrieval index` is writing to {path}. Wait for it to finish, then run "
            "this again."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opened_to_write(path: Path) -> Iterator[tuple[Manifest, Catalog]]:
    """A collection for its only writer, brought up to the newest schema.

    Raises CollectionError, which `storage_errors` makes of what is raised within, too.
    """
    Manifest.load(path)  # where there is no collection, no lock is to be made
    with storage_errors(path), only_writer(path):
        manifest = Manifest.load(path)
        if manifest.schema_version < SCHEMA_VERSION:
            manifest = replace(manifest, schema_version=SCHEMA_VERSION)
            manifest.save(path)  # first: older software would no longer understand the catalogue
        with Catalog.open(path, writable=True) as catalog:
            yield manifest, catalog


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Full disks, missing permissions and the like, in a sentence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CollectionError(
            f"{path} cannot be written: {reason}. What was committed before is kept; choose "
            "another place with -o COLLECTION, or mend the cause and run the same command again."
        ) from error


def create(path: Path, encoder: Encoder) -> None:
    """Whole or not at all: a folder without its manifest would pass for somebody else's."""
    if not is_vacant(path):  # looked at again, as loading the encoder took its time
        raise CollectionError(
            f"Another `retrieval index` has just made {path}. Run this again, to add to it."
        )
    place = path if path.exists() else beside(path, "new")  # an empty folder may be a mount
    try:
        if place != path:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        Catalog.create(place).close()
        Manifest(EncoderRecord(encoder.name, encoder.dim, encoder.fingerprint)).save(place)
        if place != path:
            os.rename(place, path)  # fails if another run was faster
            sync_folder(path.parent)
    except BaseException:
        if place != path:
            shutil.rmtree(place, ignore_errors=True)
        raise


def swap(new: Path, path: Path) -> None:
    """Put the collection `new` in the place of the one at `path`."""
    old = beside(path, "old")
    shutil.rmtree(old, ignore_errors=True)
    os.rename(path, old)
    os.rename(new, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def put_back(path: Path) -> None:
    """Undo a swap that was killed between its two renames."""
    old = beside(path, "old")
    if not path.exists() and old.exists():
        with storage_errors(path):
            os.rename(old, path)


def beside(path: Path, suffix: str) -> Path:
    """A hidden neighbour: what a user keeps beside a collection must not be overwritten."""
    path = Path(os.path.abspath(path))  # "." has no name
    return path.with_name(f".{path.name}.{suffix}")


def remove_leftovers(path: Path, current: Path) -> None:
    """Vectors that do not count: of a rewrite that was killed, or that it replaced."""
    for folder in vectors_folders(path):
        if folder != current:
            shutil.rmtree(folder, ignore_errors=True)


def require_collection(path: Path, rebuild: bool) -> Manifest | None:
    """Refuse to touch a folder that is not a collection; a rebuild mends one that is damaged: None."""
    try:
        return Manifest.load(path)
    except (CollectionNotFoundError, SchemaError):
        raise
    except CollectionError:
        if not rebuild:
            raise
        return None


def require_only_ours(path: Path) -> None:
    """A rebuild replaces the folder; what else somebody keeps in it must not go with it."""
    ours = _OURS | {folder.name for folder in vectors_folders(path)}
    others = [one.name for one in path.iterdir() if one.name not in ours and one.suffix != ".tmp"]
    if others:
        raise CollectionError(
            f"{path} holds more than the collection ({sorted(others)[0]}), which a rebuild would "
            "delete. Move that elsewhere, or choose another place with -o COLLECTION."
        )


def require_writable(path: Path) -> None:
    """Before any long work. Raises CollectionError."""
    if path.absolute() == Path(path.absolute().anchor):
        raise CollectionError(f"{path} cannot be a collection. Choose another place with -o COLLECTION.")
    place = path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise CollectionError(f"{place} cannot be written to. Choose another place with -o COLLECTION.")


def is_vacant(path: Path) -> bool:
    """Whether a collection can be made there."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def is_empty(path: Path) -> bool:
    """Whether the collection holds no image."""
    try:
        with Catalog.open(path) as catalog:
            return catalog.count("indexed") == 0
    except CollectionError:
        return True  # not even a catalogue was made
