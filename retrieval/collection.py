"""A collection: one folder with everything needed to search a set of images.

    photos.collection/
      manifest.json    which encoder, which index
      catalog.sqlite   one row per image
      vectors/         float16 shards; with the catalogue, the truth (vectors-1/ and so on once
                       they were compacted: the catalogue says which counts)
      index.faiss      derived from the vectors, rebuilt whenever it is out of date; none for a
                       "Flat" index, which searches the vectors where they lie
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Sequence

import numpy as np

from indexes import (
    FlatIndex, IndexSpec, VectorIndex, build_index, cap_threads, gpu_count, load_index, save_index,
)
from indexes.errors import IndexFileError
from retrieval import query
from retrieval.catalog import Catalog
from retrieval.encoders import check_same_encoder, load_recorded_encoder
from retrieval.errors import CollectionError, QueryError
from retrieval.manifest import IndexRecord, Manifest
from retrieval.types import Encoder, Hit
from retrieval.vectors import VectorStore

INDEX_FILE = "index.faiss"
VECTORS_FOLDER = "vectors"
DEFAULT_K = 10


def vectors_folder(path: Path, rewrites: int) -> Path:
    """Where a collection's vectors lie after so many rewrites."""
    return path / (f"{VECTORS_FOLDER}-{rewrites}" if rewrites else VECTORS_FOLDER)


def vectors_folders(path: Path) -> list[Path]:
    """All there are: the one that counts, and leftovers of a rewrite that was killed."""
    return [*path.glob(VECTORS_FOLDER), *path.glob(f"{VECTORS_FOLDER}-[0-9]*")]


class Collection:
    """Open one with `Collection.open`; make or update one with `index_folders`."""

    def __init__(self, path: Path, manifest: Manifest, catalog: Catalog):
        self.path = path
        self.manifest = manifest
        self.catalog = catalog
        self._open_vectors()
        self._encoder: Encoder | None = None
        self._device = self._precision = "auto"

    def _open_vectors(self) -> None:
        self._rewrites = self.catalog.rewrites
        folder = vectors_folder(self.path, self._rewrites)
        self.vectors = VectorStore(folder, self.manifest.encoder.dim, self.catalog.vector_rows)
        self._index: VectorIndex | FlatIndex | None = None

    def _was_compacted(self) -> bool:
        """Whether that happened since the vectors were opened; then they are opened anew."""
        if self.catalog.rewrites == self._rewrites:
            return False
        self.manifest = Manifest.load(self.path)
        self._open_vectors()
        return True

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: Encoder | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> Collection:
        """Open for searching, at the last committed state.

        encoder            use this one instead of loading the one on record; it must be the same
        device, precision  as for `load_encoder`; device "cpu" keeps the index there as well

        Raises CollectionNotFoundError, SchemaError, CollectionError, EncoderMismatchError.
        """
        path = Path(path)
        manifest = Manifest.load(path)
        if encoder is not None:
            check_same_encoder(manifest.encoder, encoder, str(path))
        catalog = Catalog.open(path)
        try:
            collection = cls(path, manifest, catalog)
        except BaseException:
            catalog.close()
            raise
        collection._encoder = encoder
        collection._device, collection._precision = device, precision
        return collection

    def close(self) -> None:
        self.catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.catalog.count("indexed")

    def load_encoder(self) -> Encoder:
        """The encoder that made this collection, loaded once. Raises EncoderMismatchError."""
        if self._encoder is None:
            self._encoder = load_recorded_encoder(
                self.manifest.encoder, str(self.path), device=self._device, precision=self._precision
            )
        return self._encoder

    def index(self) -> VectorIndex | FlatIndex:
        """The index over the committed vectors: from its file, or rebuilt if that is stale.

        A "Flat" one is the vectors themselves, or on a GPU a copy of them.
        """
        if self._index is None:
            self._was_compacted()
            cap_threads()
            device = "cpu" if self._device == "cpu" else "auto"
            record = self.manifest.index
            if _is_flat(record.spec) and (device == "cpu" or not gpu_count()):
                self._index = self._flat_index()
            elif record.generation == self.catalog.generation:
                try:
                    loaded = load_index(self.path / INDEX_FILE, record.spec, device=device)
                    if loaded.n == record.rows and loaded.dim == self.manifest.encoder.dim:
                        self._index = loaded
                except IndexFileError:
                    pass  # derived: the vectors have everything
            if self._index is None:
                self._index = self._build_index(record.spec, device=device)
        return self._index

    def search(self, queries: str | Sequence[str], k: int | None = None) -> list[Hit]:
        """The k best matches of each query, best first, query after query.

        queries  texts, or paths of image files
        k        1..len(self); None means 10, or all if there are fewer

        Raises QueryError.
        """
        parsed = [query.parse(one) for one in ([queries] if isinstance(queries, str) else queries)]
        k = self.checked_k(k)
        vectors = query.embed(parsed, self.load_encoder())
        return self.search_vectors([one.shown for one in parsed], vectors, k)

    def checked_k(self, k: int | None) -> int:
        """Raises QueryError unless k is in 1..len(self)."""
        n = len(self)
        if n == 0:
            raise QueryError(
                f"{self.path} holds no images yet. Add some: retrieval index FOLDER -o {self.path}"
            )
        if k is None:
            return min(DEFAULT_K, n)
        if k < 1:
            raise QueryError(f"k is {k}; ask for at least 1 result.")
        if k > n:
            raise QueryError(f"k is {k}, but {self.path} holds {n} images; ask for at most {n}.")
        return k

    def search_vectors(self, shown: Sequence[str], vectors: np.ndarray, k: int) -> list[Hit]:
        """`search` for query vectors (q, d), float32 unit rows. shown: q names for the results."""
        while True:
            try:
                matches = self.index().search(vectors, k)
            except CollectionError:
                if self._was_compacted():  # and what was to be read is gone
                    continue
                raise
            documents = self.catalog.documents_of_rows(matches.rows[matches.rows >= 0].tolist())
            if not self._was_compacted():  # else these rows have other numbers by now
                break
        hits = []
        for name, scores, rows in zip(shown, matches.scores, matches.rows):
            found = [(score, *documents[row]) for score, row in zip(scores.tolist(), rows.tolist())
                     if row in documents]
            hits += [Hit(name, rank, score, id, path)
                     for rank, (score, id, path) in enumerate(found, 1)]
        return hits

    def refresh_index(self) -> None:
        """Rebuild and save the index if it is out of date, then record it in the manifest.

        A "Flat" one has no file.

        Raises OSError if it cannot be written.
        """
        record = self.manifest.index
        generation = self.catalog.generation
        if _is_flat(record.spec):
            self.vectors.check()
            (self.path / INDEX_FILE).unlink(missing_ok=True)  # older versions wrote one
            self._index = self._flat_index()
            record = IndexRecord(record.spec, generation, self._index.n)
        elif record.generation != generation or not (self.path / INDEX_FILE).exists():
            self._index = self._build_index(record.spec, device="cpu")
            save_index(self._index, self.path / INDEX_FILE)
            record = IndexRecord(record.spec, generation, self._index.n)
        counts = {"images": self.catalog.count("indexed"), "failed": self.catalog.count("failed")}
        self.manifest = replace(self.manifest, index=record, counts=counts)
        self.manifest.save(self.path)

    def _flat_index(self) -> FlatIndex:
        every = self.catalog.live_below(self.vectors.n) == self.vectors.n
        return FlatIndex(self.vectors, None if every else self._live_rows())

    def _build_index(self, spec: IndexSpec, *, device: str) -> VectorIndex:
        rows = self._live_rows()
        every = len(rows) == self.vectors.n
        source = self.vectors if every else self.vectors.take(rows)
        return build_index(source, spec, rows=None if every else rows, device=device)

    def _live_rows(self) -> np.ndarray:
        rows = self.catalog.live_rows()
        return rows[rows < self.vectors.n]  # a run may have committed more since this was opened


def _is_flat(spec: IndexSpec) -> bool:
    return spec.factory == "Flat"
