"""Dropping documents for good, and rewriting the vectors without the rows they left.

A document that goes leaves its vector row behind, dead. Compacting writes the live rows into a
new folder, and one transaction of the catalogue both renumbers the rows and switches to that
folder. Before it, the new folder is a leftover; after it, the old one is. Whatever is left over
is removed by the next run that writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

import numpy as np

from retrieval.corpus.addresses import absolute, starts_within
from retrieval.errors import CollectionError
from retrieval.stored import StoredCollection
from retrieval.vectors import VectorStore, vectors_folder, vectors_folders
from retrieval.writing import opened_to_write, remove_leftovers


@dataclass(frozen=True)
class CompactReport:
    """rows: live ones, all there are now. dropped_rows: dead ones. freed: bytes."""

    collection: Path
    rows: int
    dropped_rows: int
    freed: int


def compact(path: Path) -> CompactReport:
    """Rewrite the vectors without dead rows. The collection can be searched meanwhile.

    Needs room for the live vectors a second time. Raises CollectionError; what was there before
    is then as it was.
    """
    with opened_to_write(path) as (manifest, catalog):
        collection = StoredCollection(path, manifest, catalog)
        live = np.union1d(catalog.live_rows(), catalog.captions.live_rows())
        rows = collection.vectors.n
        before = sum(map(_bytes, vectors_folders(path)))
        remove_leftovers(path, collection.vectors.folder)
        if len(live) < rows:
            new = vectors_folder(path, catalog.rewrites + 1)
            _copy(collection.vectors, live, new)
            catalog.renumber(live)
            collection = StoredCollection(path, manifest, catalog)
            remove_leftovers(path, new)
        collection.refresh_index()
        after = sum(map(_bytes, vectors_folders(path)))
    return CompactReport(path, len(live), rows - len(live), before - after)


def forget(path: Path, places: Iterable[str | Path]) -> int:
    """Drop the documents of these files, and of all below these folders, archives and URIs; says how many.

    The files need not be there any more, and are not touched if they are. Raises CollectionError
    if no document lies at or below one of the places; then none is dropped.
    """
    with opened_to_write(path) as (manifest, catalog):
        known = catalog.known_files()
        gone: set[str] = set()
        for place in places:
            name = absolute(place)
            below = starts_within([name])
            found = {file for file in known if file == name or file.startswith(below)}
            if not found:
                raise CollectionError(
                    f"{path} holds nothing at or below {name}. `retrieval search` shows the paths "
                    "of its images."
                )
            gone |= found
        catalog.forget(gone)
        StoredCollection(path, manifest, catalog).refresh_index()
    return len(gone)


def _copy(store: VectorStore, rows: np.ndarray, folder: Path) -> None:
    """As they are, bit by bit, a shard at a time."""
    new = VectorStore(folder, store.dim, 0, shard_rows=store.shard_rows)
    for start in range(0, len(rows), new.shard_rows):
        new.n += len(new.append(store.take_halves(rows[start : start + new.shard_rows])))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
