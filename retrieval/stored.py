"""A collection as it is stored: one folder with everything needed to search a set of images.

    photos.collection/
      manifest.json    which encoder, which index
      catalog.sqlite   one row per image, and its captions
      vectors/         float16 shards; with the catalogue, the truth (vectors-1/ and so on once
                       they were compacted: the catalogue says which counts); and what makes exact
                       search of many faster, see `retrieval.sketches`
      index.faiss      derived from the vectors, see `retrieval.indexed`; none for a "Flat" index,
                       which searches the vectors where they lie
      captions.faiss   the same of captions, where they are embedded
      calibration/     what calibrates text queries: see `retrieval.calibration`
      fused.npy        images' vectors fused with those of their captions, where this was asked for
      queries.sqlite   vectors of queries that were asked before
      generic-queries.npy  vectors of texts that an index was tuned with, where there were no captions
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, TypeVar

import numpy as np

from indexes import cap_threads
from retrieval import sketches
from retrieval.calibration import Calibration, biases_of, calibration_of, state_of
from retrieval.catalog import Catalog
from retrieval.conditions import Condition
from retrieval.errors import CollectionError, QueryError
from retrieval.indexed import INDEX_FILES, Indexed, SearchableIndex, is_flat
from retrieval.manifest import IndexRecord, Manifest
from retrieval.tuning import Encode
from retrieval.types import CAPTIONS, IMAGES
from retrieval.vectors import VectorStore, vectors_folder

Found = TypeVar("Found")


class StoredCollection:
    """What is committed of a collection, and what was made of it; right while others write.

    What they drop is no longer found; what they add is found once it is opened anew. That happens by
    itself where they rebuilt or compacted it, as rows have other numbers then.

    device  "cpu" keeps indexes there; with any other they go to a GPU where there is one
    """

    def __init__(self, path: Path, manifest: Manifest, catalog: Catalog, *, device: str = "auto"):
        self.path = path
        self._device = device
        self._open(manifest, catalog)

    def _open(self, manifest: Manifest, catalog: Catalog) -> None:
        """At the last commit, with nothing made of it yet."""
        self.manifest, self.catalog = manifest, catalog
        self._rewrites, self._generation = catalog.rewrites, catalog.generation
        folder = vectors_folder(self.path, self._rewrites)
        self.vectors = VectorStore(folder, manifest.encoder.dim, catalog.vector_rows)
        self._indexes: dict[str, SearchableIndex] = {}
        self._known: dict[str, tuple[int, Any]] = {}  # at which generation, and what
        self._calibration: tuple[Calibration | None, object] | None = None  # found or not, as of which state
        self._biases = np.zeros(0, np.float32)
        self._allowed: dict[tuple, np.ndarray] = {}

    def _was_rewritten(self) -> bool:
        """Whether it was rebuilt or compacted since it was opened; then it is opened anew.

        Raises CollectionError if it was rebuilt with another encoder.
        """
        rebuilt = self.catalog.was_replaced()  # and the vectors that lie there are not this catalogue's
        if not rebuilt and self.catalog.rewrites == self._rewrites:
            return False
        manifest, catalog = Manifest.load(self.path), self.catalog
        if manifest.encoder != self.manifest.encoder:
            raise CollectionError(f"{self.path} was rebuilt with another encoder meanwhile. Open it anew.")
        if rebuilt:
            catalog = Catalog.open(self.path)
            self.catalog.close()
        self._open(manifest, catalog)
        return True

    def undisturbed(self, find: Callable[[], Found]) -> Found:
        """What `find` reads of index, vectors and catalogue in one state of the collection."""
        while True:
            try:
                found = find()
            except CollectionError:
                if self._was_rewritten():  # and what was to be read is gone
                    continue
                raise
            if not self._was_rewritten():  # else rows have other numbers by now
                return found

    def _once_per_commit(self, what: str, find: Callable[[], Found]) -> Found:
        """What `find` makes of the catalogue and the vectors, kept for as long as they stay as they are."""
        generation = self.catalog.generation
        known = self._known.get(what)
        if known is None or known[0] != generation:
            known = self._known[what] = generation, find()
        return known[1]

    def __len__(self) -> int:
        """Images to search. Counted once per commit, as every search asks."""
        return self._once_per_commit(IMAGES, lambda: self.catalog.count("indexed"))

    def index(self, within: str = IMAGES) -> SearchableIndex:
        """The index over the committed vectors.

        within  IMAGES or CAPTIONS
        """
        if within not in self._indexes:
            if not self._was_rewritten() and not self._indexes and self.catalog.generation != self._generation:
                # The file of the index may hold rows that were committed since.
                self._open(Manifest.load(self.path), self.catalog)
            cap_threads()
            device = "cpu" if self._device == "cpu" else "auto"
            record = self._index_record(within)
            self._indexes[within] = self.indexed(within).open(record, device)
        return self._indexes[within]

    def indexed(self, within: str = IMAGES) -> Indexed:
        """The rows that can be searched, and the file of their index."""
        fuse = self.manifest.fuse if within == IMAGES else None
        return Indexed(self.path, self.catalog, self.vectors, within, fuse)

    def _index_record(self, within: str) -> IndexRecord:
        """Raises QueryError if there is no such index."""
        if within not in INDEX_FILES:
            raise QueryError(f"There is nothing called {within!r} to search in; choose {IMAGES} or {CAPTIONS}.")
        record = self.manifest.index if within == IMAGES else self.manifest.captions
        if record is None:
            raise QueryError(
                f"{self.path} holds no captions' vectors. Embed them: retrieval index SOURCE "
                f"--with-captions -o {self.path}"
            )
        return record

    @property
    def calibration(self) -> Calibration | None:
        """What text queries for images are calibrated with by now, if anything. Raises CollectionError.

        Images fused with their captions are not: how close they are to texts is what was asked for.
        """
        state = state_of(self.path)
        if self._calibration is None or self._calibration[1] != state:
            fuses = self.manifest.fuse is not None
            self._calibration = None if fuses else calibration_of(self.path, self.manifest.encoder.name), state
            self._biases = np.zeros(0, np.float32)
        return self._calibration[0]

    def biases(self, *, keep: bool = False) -> np.ndarray | None:
        """What is taken from each row's score for a text query, (n,) float32; None where nothing is.

        keep  write them beside the vectors; for who is the only writer
        """
        calibration = self.calibration
        if calibration is None:
            return None
        if len(self._biases) < self.vectors.n or keep:
            self._biases = biases_of(self.path, calibration, self.vectors, self._rewrites, keep=keep)
        return self._biases

    def allowed(self, where: Condition | None, within: str = IMAGES) -> np.ndarray:
        """Which vector rows belong to images of which it is true, None to any, or to their captions: bool (n,)."""
        key = where, within, self.catalog.generation, self._rewrites
        if key not in self._allowed:
            source = self.catalog if within == IMAGES else self.catalog.captions
            rows = source.live_rows() if where is None else source.rows_where(where)
            mask = np.zeros(self.vectors.n, bool)
            mask[rows[rows < self.vectors.n]] = True  # a run may have committed more since this was opened
            self._allowed = {key: mask}
        return self._allowed[key]

    def refresh_index(self, encode: Encode | None = None, *, retune: bool = False) -> None:
        """Bring each index that is out of date up to date, and the biases, then record them in the manifest.

        encode, retune  as `Indexed.refreshed` takes them. Raises OSError if one cannot be written.
        """
        self.biases(keep=True)
        captions = self.manifest.captions
        if captions is None:
            (self.path / INDEX_FILES[CAPTIONS]).unlink(missing_ok=True)
        counts = {"images": self.catalog.count("indexed"), "failed": self.catalog.count("failed")}
        self.manifest = replace(
            self.manifest, index=self._refreshed(IMAGES, self.manifest.index, encode, retune),
            captions=captions and self._refreshed(CAPTIONS, captions, encode, retune), counts=counts,
        )
        if not any(one and is_flat(one.spec) for one in (self.manifest.index, self.manifest.captions)):
            sketches.remove(self.vectors)
        self.manifest.save(self.path)

    def _refreshed(self, within: str, record: IndexRecord, encode: Encode | None, retune: bool) -> IndexRecord:
        record, index = self.indexed(within).refreshed(record, encode, retune=retune)
        if index is not None:
            self._indexes[within] = index
        return record
