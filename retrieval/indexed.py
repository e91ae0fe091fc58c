"""What a collection is searched with: an index over its images, and one over their captions.

An index is derived: opened from its file, or built anew from the vectors whenever the file is not
there, damaged or out of date. A "Flat" one has no file, it is the vectors where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexes import FlatIndex, IndexSpec, VectorIndex, build_index, gpu_count, load_index, save_index
from indexes.errors import IndexFileError
from retrieval.catalog import Catalog
from retrieval.manifest import IndexRecord
from retrieval.vectors import VectorStore

IMAGES, CAPTIONS = "images", "captions"  # what can be searched
INDEX_FILES = {IMAGES: "index.faiss", CAPTIONS: "captions.faiss"}

SearchableIndex = VectorIndex | FlatIndex


@dataclass(frozen=True)
class Indexed:
    """The rows that one index is over, and where its file is.

    path     of the collection
    within   IMAGES or CAPTIONS
    vectors  of both, as committed when these were opened
    """

    path: Path
    catalog: Catalog
    vectors: VectorStore
    within: str

    @property
    def file(self) -> Path:
        return self.path / INDEX_FILES[self.within]

    def open(self, record: IndexRecord, device: str) -> SearchableIndex:
        """The index over the committed vectors: from its file, or rebuilt if that is stale.

        A "Flat" one is the vectors themselves, or on a GPU a copy of them.

        device  "auto" or "cpu"
        """
        if is_flat(record.spec) and (device == "cpu" or not gpu_count()):
            return self._flat()
        return self._saved(record, device) or self._built(record.spec, device=device)

    def refreshed(self, record: IndexRecord) -> tuple[IndexRecord, SearchableIndex | None]:
        """Build and save the index if it is out of date; what then is on record, and the index.

        None stands for one that is as it was. Raises OSError if it cannot be written.
        """
        generation = self.catalog.generation
        if is_flat(record.spec):
            self.file.unlink(missing_ok=True)  # older versions wrote one
            index: SearchableIndex = self._flat()
        elif record.generation == generation and self.file.exists():
            return record, None
        else:
            index = self._built(record.spec, device="cpu")
            save_index(index, self.file)
        return IndexRecord(record.spec, generation, index.n), index

    def _saved(self, record: IndexRecord, device: str) -> VectorIndex | None:
        if record.generation != self.catalog.generation:
            return None
        try:
            loaded = load_index(self.file, record.spec, device=device)
        except IndexFileError:  # derived: the vectors have everything
            return None
        fits = loaded.n == record.rows and loaded.dim == self.vectors.dim
        return loaded if fits else None

    def _flat(self) -> FlatIndex:
        self.vectors.map_all()  # a rebuild may put others in their place
        every = self.within == IMAGES and self.catalog.live_below(self.vectors.n) == self.vectors.n
        return FlatIndex(self.vectors, None if every else self._live_rows())

    def _built(self, spec: IndexSpec, *, device: str) -> VectorIndex:
        rows = self._live_rows()
        every = len(rows) == self.vectors.n
        source = self.vectors if every else self.vectors.chosen(rows)
        return build_index(source, spec, rows=None if every else rows, device=device)

    def _live_rows(self) -> np.ndarray:
        rows = (self.catalog if self.within == IMAGES else self.catalog.captions).live_rows()
        return rows[rows < self.vectors.n]  # a run may have committed more since this was opened


def is_flat(spec: IndexSpec) -> bool:
    return spec.factory == "Flat"
