"""What a collection is searched with: an index over its images, and one over their captions.

An index is derived: opened from its file, or built anew from the vectors where the file is not
there or damaged. A "Flat" one has no file, it is the vectors where they lie, and perhaps a sketch of them.

A file that is only behind is brought up to date without training: rows never change while the
vectors are not rewritten, so new ones are added to the index, and those that are no longer any
document's are not found. It is built anew, and tuned, once that has gone far: see `is_worn`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Mapping

import numpy as np

from indexes import (
    FlatIndex, IndexSpec, LiveIndex, RefinedIndex, Sketch, VectorIndex, add_vectors, build_index, free_memory,
    gpu_count, has_small_codes, least_vectors, load_index, needed_memory, save_index,
)
from indexes.errors import IndexFileError, SpecError
from retrieval import fused, sketches
from retrieval.catalog import Catalog
from retrieval.errors import NOTICE, RetrievalError
from retrieval.manifest import IndexChoice, IndexRecord
from retrieval.tuning import Encode, TextQueries, text_queries, tuned
from retrieval.types import CAPTIONS, IMAGES
from retrieval.vectors import ChosenRows, VectorStore

log = logging.getLogger("retrieval")

INDEX_FILES = {IMAGES: "index.faiss", CAPTIONS: "captions.faiss"}
FLAT = IndexSpec("Flat")
_GROWN = 2  # times as many rows as it was trained with
_DEAD_AT_MOST = 0.2  # share of the rows in the file
_REFINE = 16  # candidates for each result, until tuning finds better

Stored = VectorStore | np.ndarray  # float16 (n, d) by vector row
SearchableIndex = VectorIndex | FlatIndex | RefinedIndex | LiveIndex


@dataclass(frozen=True)
class Indexed:
    """The rows that one index is over, and where its file is.

    path     of the collection
    within   IMAGES or CAPTIONS
    vectors  of both, as committed when these were opened
    fuse     weights of images and captions, where images are searched fused with these; the rows
             then change with what is said of them, and an index that is behind is built anew
    """

    path: Path
    catalog: Catalog
    vectors: VectorStore
    within: str
    fuse: Mapping[str, float] | None = None

    @property
    def file(self) -> Path:
        return self.path / INDEX_FILES[self.within]

    def open(self, record: IndexRecord, device: str) -> SearchableIndex:
        """The index over the committed vectors: from its file, brought up to date, or built anew.

        A "Flat" one is the vectors themselves, or on a GPU a copy of them.

        device  "auto" or "cpu"
        """
        stored = self._stored(record)
        if is_flat(record.spec):
            in_place = device == "cpu" or not gpu_count()
            sketch = None if self.fuse else sketches.opened(self.vectors)
            return self._flat(stored, sketch) if in_place else self._built(FLAT, stored, device)
        current = record.generation == self.catalog.generation
        index = self._saved(record.spec, mmap=True) if current or self.fuse is None else None
        if index is None:
            log.log(NOTICE, "%s is missing, damaged or of another state. The index is built in memory, as by every "
                    "search until there is a file: retrieval index --retune -o %s", self.file, self.path)
            try:
                return self._refining(self._built(record.spec, stored, device, record.wanted.memory), stored)
            except SpecError:  # of fewer rows than it needs by now
                return self._flat(stored)
        if current and index.n == record.rows:
            return self._refining(index.on(device), stored)
        live = self.live_rows()
        return self._searched(self._caught_up(index, stored, live), stored, live, device)

    def refreshed(
        self, record: IndexRecord, encode: Encode | None = None, *, retune: bool = False
    ) -> tuple[IndexRecord, SearchableIndex | None]:
        """Bring the index and its file up to date; what then is on record, and the index.

        encode  makes vectors of texts, to tune with; None: only such as are there
        retune  think again about what to build, and how to search it

        None stands for an index that is as it was. Raises OSError if it cannot be written.
        """
        generation, choice = self.catalog.generation, record.wanted
        retune |= record.tuning is not None and record.tuning.target != choice.target_recall
        retune |= choice.factory is not None and choice.factory != record.spec.factory
        flat, behind = is_flat(record.spec), record.generation != generation
        retune |= not flat and record.tuning is None and encode is not None
        if self.within == IMAGES:
            self._refresh_fused(behind)
        if not (flat or retune) and self.is_current(record):
            return record, None
        stored, live = self._stored(replace(record, generation=generation)), self.live_rows()
        other_rows = behind and self.fuse is not None
        held = None if flat or other_rows else self._saved(record.spec, mmap=True)
        worn = held is None or is_worn(record.trained_rows, held.rows, live)
        spec = self._chosen(record, len(live), encode) if worn or retune else record.spec
        if is_flat(spec):
            self.file.unlink(missing_ok=True)  # older versions wrote one
            sketch = None if self.fuse else sketches.refreshed(self.vectors, lambda: self._texts(encode))
            return IndexRecord(spec, generation, len(live), record.choice), self._flat(stored, sketch)
        if worn or spec.factory != record.spec.factory:
            index, retune = self._built(spec, stored, "cpu", record.wanted.memory), True
            record = IndexRecord(spec, choice=record.choice, trained_rows=len(live))
        else:
            index = self._caught_up(held, stored, live)
        if index is not held:
            save_index(index, self.file, source=self._source)
            record = replace(record, bytes_per_vector=round(self.file.stat().st_size / index.n, 1))
        if retune:
            record = self._tuned(record, index, stored, encode)
            index = index.with_spec(record.spec)
        return replace(record, generation=generation, rows=len(live)), self._searched(index, stored, live)

    def is_current(self, record: IndexRecord) -> bool:
        """Whether what is on record is of all that is committed, and in the file, if it takes one."""
        if record.generation != self.catalog.generation:
            return False
        return is_flat(record.spec) or self._saved(record.spec, mmap=True) is not None

    def changed(self, record: IndexRecord) -> tuple[int | None, int]:
        """Rows that were added to the file since the index was trained, None where that is not known; and dead ones."""
        index = None if is_flat(record.spec) else self._saved(record.spec, mmap=True)
        if index is None:
            return (0 if is_flat(record.spec) else None), 0
        return index.n - record.trained_rows if record.trained_rows else None, index.n - record.rows

    def check_fits(self, choice: IndexChoice, n: int) -> None:
        """Raise SpecError if FAISS cannot build what was asked for over n vectors, or memory is short."""
        if choice.factory is None or choice.factory == FLAT.factory:
            return
        spec, dim = IndexSpec(choice.factory), self.vectors.dim
        least = least_vectors(spec, dim)
        if n < least:
            raise SpecError(
                f'"{spec.factory}" needs at least {least} vectors to train, and {self.path} would have '
                f"{n} {self.within}. Use --index auto, or fewer lists."
            )
        memory = choice.memory or free_memory()
        needed = needed_memory(spec, n, dim)
        if memory is not None and needed > memory:
            raise SpecError(
                f'"{spec.factory}" takes about {needed / 1e9:.1f} GB for {n} {self.within}, and there are '
                f"{memory / 1e9:.1f} GB for it. Use --index auto, or smaller codes."
            )

    def _chosen(self, record: IndexRecord, n: int, encode: Encode | None) -> IndexSpec:
        """What to build over n vectors: what was asked for, or suggested; "Flat" if that cannot be."""
        choice = record.wanted
        try:
            if choice.factory is None:
                return self._suggested(record, n, encode)
            self.check_fits(choice, n)
        except SpecError as error:
            log.log(NOTICE, "%s is searched exactly, without an index. %s", self.path, error)
            return FLAT
        if choice.factory == record.spec.factory:
            return record.spec
        small = has_small_codes(IndexSpec(choice.factory), self.vectors.dim)
        return IndexSpec(choice.factory, refine=_REFINE if small else None)

    def _suggested(self, record: IndexRecord, n: int, encode: Encode | None) -> IndexSpec:
        choice, was = record.wanted, record.spec
        found = IndexSpec.suggest(
            max(n, 1), self.vectors.dim, memory=choice.memory or free_memory(), target_recall=choice.target_recall
        )
        if found.spec.factory == was.factory:
            return was
        if is_flat(was) and encode is None and self._queries(None) is None:
            return was  # without texts nobody knows what it would lose
        log.log(NOTICE, "%s is now searched with %s: %s", self.path, found.spec.factory, " ".join(found.reasons))
        return found.spec

    def _tuned(
        self, record: IndexRecord, index: VectorIndex, stored: Stored, encode: Encode | None
    ) -> IndexRecord:
        queries = self._queries_or_none(encode, "the index was not tuned")
        if queries is None:
            return record
        target, rows = record.wanted.target_recall, index.rows
        spec, tuning = tuned(self._refining(index, stored), _chosen(stored, rows), rows, queries, target)
        if not tuning.reached:
            log.log(NOTICE, "%s: no setting of %s reaches a recall of %g; the best there is has %.3f.",
                    self.path, spec.factory, target, tuning.text[0])
        return replace(record, spec=spec, tuning=tuning)

    def _queries_or_none(self, encode: Encode | None, otherwise: str) -> TextQueries | None:
        try:
            return self._queries(encode)
        except RetrievalError as error:
            log.log(NOTICE, "%s: %s, as no texts could be encoded. %s", self.path, otherwise, error)
            return None

    def _texts(self, encode: Encode | None) -> np.ndarray | None:
        queries = self._queries_or_none(encode, "exact search was not fitted to words")
        return None if queries is None else queries.vectors

    def _queries(self, encode: Encode | None) -> TextQueries | None:
        return text_queries(self.path, self.catalog, self.vectors, encode, captions=self.within == IMAGES)

    @property
    def _source(self) -> str:
        name = self.vectors.folder.name  # another one once the rows were renumbered
        return name if self.fuse is None else f"{name} {fused.in_words(self.fuse)}"

    def _saved(self, spec: IndexSpec, *, mmap: bool) -> VectorIndex | None:
        """What the file holds, on the CPU, if it is a file of these vectors."""
        try:
            index = load_index(
                self.file, spec, dim=self.vectors.dim, source=self._source, device="cpu", mmap=mmap
            )
        except IndexFileError:  # derived: the vectors have everything
            return None
        newer = index.n and index.rows[-1] >= self.vectors.n  # than what was committed at opening
        return None if newer else index

    def _caught_up(self, index: VectorIndex, stored: Stored, live: np.ndarray) -> VectorIndex:
        """The index with the rows that it lacks; itself if there are none."""
        held = index.rows
        missing = np.setdiff1d(live, held, assume_unique=True)
        if not len(missing):
            return index
        whole = self._saved(index.spec, mmap=False)  # to one that is mapped nothing can be added
        if whole is None or (len(held) and missing[0] <= held[-1]):
            return self._built(index.spec, stored, "cpu")
        return add_vectors(whole, _chosen(stored, missing), missing)

    def _searched(
        self, index: VectorIndex, stored: Stored, live: np.ndarray, device: str = "cpu"
    ) -> SearchableIndex:
        """The index as it is searched: refined if its spec says so, and without its dead rows."""
        if len(live) == index.n:
            return self._refining(index.on(device), stored)
        mask = np.zeros(self.vectors.n, bool)
        mask[live] = True
        return LiveIndex(self._refining(index, stored), mask)  # on the CPU: no GPU passes rows over

    def _refining(self, index: VectorIndex, stored: Stored) -> VectorIndex | RefinedIndex:
        if index.spec.refine is None:
            return index
        self.vectors.map_all()  # a rebuild may put others in their place
        return RefinedIndex(index, stored)

    def _flat(self, stored: Stored, sketch: Sketch | None = None) -> FlatIndex:
        self.vectors.map_all()
        every = self.within == IMAGES and self.catalog.live_below(self.vectors.n) == self.vectors.n
        return FlatIndex(stored, None if every else self.live_rows(), sketch)

    def _built(
        self, spec: IndexSpec, stored: Stored, device: str, memory: int | None = None
    ) -> VectorIndex:
        rows = self.live_rows()
        every = len(rows) == self.vectors.n
        return build_index(
            stored if every else _chosen(stored, rows), spec, rows=None if every else rows, device=device,
            memory=memory or free_memory(),
        )

    def _stored(self, record: IndexRecord) -> Stored:
        """What an index is of: the vectors themselves, or images' fused with those of their captions."""
        if self.fuse is None:
            return self.vectors
        current = record.generation == self.catalog.generation
        found = fused.opened(self.path, *self.vectors.shape) if current else None
        return fused.fused(self.vectors, self.catalog, self.fuse) if found is None else found

    def _refresh_fused(self, behind: bool) -> None:
        if self.fuse is None:
            (self.path / fused.FILE_NAME).unlink(missing_ok=True)
        elif behind or fused.opened(self.path, *self.vectors.shape) is None:
            fused.write(self.path, self.vectors, self.catalog, self.fuse)

    def live_rows(self) -> np.ndarray:
        """Rows to be found, ascending. int64 (m,)"""
        rows = (self.catalog if self.within == IMAGES else self.catalog.captions).live_rows()
        return rows[rows < self.vectors.n]  # a run may have committed more since this was opened


def _chosen(stored: Stored, rows: np.ndarray) -> ChosenRows | np.ndarray:
    return stored[rows] if isinstance(stored, np.ndarray) else stored.chosen(rows)


def is_flat(spec: IndexSpec) -> bool:
    return spec.factory == FLAT.factory


def is_worn(trained_rows: int, held: np.ndarray, live: np.ndarray) -> bool:
    """Whether an index is to be built anew: trained with half of what there is now, or a fifth is dead.

    held, live  rows in the index and rows to be found, ascending
    """
    dead = len(held) - int(np.searchsorted(live, held[-1], "right")) if len(held) else 0
    return len(live) >= _GROWN * trained_rows or dead > _DEAD_AT_MOST * len(held)
