"""A collection: one folder with everything needed to search a set of images.

    photos.collection/
      manifest.json    which encoder, which index
      catalog.sqlite   one row per image, and its captions
      vectors/         float16 shards; with the catalogue, the truth (vectors-1/ and so on once
                       they were compacted: the catalogue says which counts)
      index.faiss      derived from the vectors, rebuilt whenever it is out of date; none for a
                       "Flat" index, which searches the vectors where they lie
      captions.faiss   the same of captions, where they are embedded
      queries.npy      derived: vectors of generic queries, where an index was tuned with these
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Sequence

import numpy as np

from indexes import cap_threads
from retrieval import query
from retrieval.catalog import Catalog
from retrieval.encoders import check_same_encoder, load_recorded_encoder
from retrieval.errors import CollectionError, QueryError
from retrieval.indexed import CAPTIONS, IMAGES, INDEX_FILES, Indexed, SearchableIndex
from retrieval.manifest import IndexRecord, Manifest
from retrieval.tuning import Encode
from retrieval.types import Encoder, Hit
from retrieval.vectors import VectorStore

VECTORS_FOLDER = "vectors"
DEFAULT_K = 10


def vectors_folder(path: Path, rewrites: int) -> Path:
    """Where a collection's vectors lie after so many rewrites."""
    return path / (f"{VECTORS_FOLDER}-{rewrites}" if rewrites else VECTORS_FOLDER)


def vectors_folders(path: Path) -> list[Path]:
    """All there are: the one that counts, and leftovers of a rewrite that was killed."""
    return [*path.glob(VECTORS_FOLDER), *path.glob(f"{VECTORS_FOLDER}-[0-9]*")]


class Collection:
    """Open one with `Collection.open`; make or update one with `index_sources`."""

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
        self._indexes: dict[str, SearchableIndex] = {}
        self._counted: tuple[int, int] | None = None  # generation, images

    def _was_rewritten(self) -> bool:
        """Whether it was rebuilt or compacted since it was opened; then it is opened anew.

        Raises CollectionError if it was rebuilt with another encoder.
        """
        return self._was_rebuilt() or self._was_compacted()

    def _was_rebuilt(self) -> bool:
        """Whether another collection lies in its place by now, with vectors that are not this catalogue's."""
        if not self.catalog.was_replaced():
            return False
        manifest = Manifest.load(self.path)
        if manifest.encoder != self.manifest.encoder:
            raise CollectionError(f"{self.path} was rebuilt with another encoder meanwhile. Open it anew.")
        catalog = Catalog.open(self.path)
        self.catalog.close()
        self.manifest, self.catalog = manifest, catalog
        self._open_vectors()
        return True

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
        """Images to search. Counted once per commit, as every search asks."""
        generation = self.catalog.generation
        if self._counted is None or self._counted[0] != generation:
            self._counted = generation, self.catalog.count("indexed")
        return self._counted[1]

    def load_encoder(self) -> Encoder:
        """The encoder that made this collection, loaded once. Raises EncoderMismatchError."""
        if self._encoder is None:
            self._encoder = load_recorded_encoder(
                self.manifest.encoder, str(self.path), device=self._device, precision=self._precision
            )
        return self._encoder

    def index(self, within: str = IMAGES) -> SearchableIndex:
        """The index over the committed vectors.

        within  IMAGES or CAPTIONS
        """
        if within not in self._indexes:
            self._was_rewritten()
            cap_threads()
            device = "cpu" if self._device == "cpu" else "auto"
            self._indexes[within] = self.indexed(within).open(self._index_record(within), device)
        return self._indexes[within]

    def indexed(self, within: str) -> Indexed:
        """The rows to be searched, and the file of their index."""
        return Indexed(self.path, self.catalog, self.vectors, within)

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

    def search(
        self, queries: str | Sequence[str], k: int | None = None, *, within: str = IMAGES
    ) -> list[Hit]:
        """The k best matches of each query, best first, query after query.

        queries  texts, or paths of image files
        k        1..how many there are; None means 10, or all if there are fewer
        within   IMAGES, or CAPTIONS: captions that sources gave, if they are embedded

        Raises QueryError.
        """
        parsed = [query.parse(one) for one in ([queries] if isinstance(queries, str) else queries)]
        k = self.checked_k(k, within)
        vectors = query.embed(parsed, self.load_encoder())
        return self.search_vectors([one.shown for one in parsed], vectors, k, within=within)

    def checked_k(self, k: int | None, within: str = IMAGES) -> int:
        """Raises QueryError unless k is in 1..how many there are to find."""
        self._index_record(within)
        n = len(self) if within == IMAGES else self.catalog.captions.counts()[1]
        if n == 0:
            add = "Add some" if within == IMAGES else "Index a source that has some"
            raise QueryError(f"{self.path} holds no {within} yet. {add}: retrieval index SOURCE -o {self.path}")
        if k is None:
            return min(DEFAULT_K, n)
        if k < 1:
            raise QueryError(f"k is {k}; ask for at least 1 result.")
        if k > n:
            raise QueryError(f"k is {k}, but {self.path} holds {n} {within}; ask for at most {n}.")
        return k

    def search_vectors(
        self, shown: Sequence[str], vectors: np.ndarray, k: int, *, within: str = IMAGES
    ) -> list[Hit]:
        """`search` for query vectors (q, d), float32 unit rows. shown: q names for the results."""
        return [hit for hits in self.search_each(shown, vectors, k, within=within) for hit in hits]

    def search_each(
        self, shown: Sequence[str], vectors: np.ndarray, k: int, *, within: str = IMAGES
    ) -> list[list[Hit]]:
        """`search_vectors` with a list for each query, q in all."""
        while True:
            try:
                matches = self.index(within).search(vectors, k)
            except CollectionError:
                if self._was_rewritten():  # and what was to be read is gone
                    continue
                raise
            rows = matches.rows[matches.rows >= 0].tolist()
            if within == IMAGES:
                owners = {row: [one] for row, one in self.catalog.documents_of_rows(rows).items()}
            else:
                owners = self.catalog.captions.of_rows(rows)
            if not self._was_rewritten():  # else these rows have other numbers by now
                break
        answers = []
        for name, scores, rows in zip(shown, matches.scores, matches.rows):
            found = [(score, *owner) for score, row in zip(scores.tolist(), rows.tolist())
                     for owner in owners.get(row, ())][:k]  # images with the same caption share a row
            answers.append([Hit(name, rank, *one) for rank, one in enumerate(found, 1)])
        return answers

    def refresh_index(self, encode: Encode | None = None, *, retune: bool = False) -> None:
        """Bring each index that is out of date up to date, then record them in the manifest.

        A "Flat" one has no file. Raises OSError if one cannot be written.

        encode, retune  see Indexed.refreshed
        """
        captions = self.manifest.captions
        if captions is None:
            (self.path / INDEX_FILES[CAPTIONS]).unlink(missing_ok=True)
        counts = {"images": self.catalog.count("indexed"), "failed": self.catalog.count("failed")}
        self.manifest = replace(
            self.manifest, index=self._refreshed(IMAGES, self.manifest.index, encode, retune),
            captions=captions and self._refreshed(CAPTIONS, captions, encode, retune), counts=counts,
        )
        self.manifest.save(self.path)

    def _refreshed(self, within: str, record: IndexRecord, encode: Encode | None, retune: bool) -> IndexRecord:
        record, index = self.indexed(within).refreshed(record, encode, retune=retune)
        if index is not None:
            self._indexes[within] = index
        return record
