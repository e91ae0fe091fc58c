"""A collection: one folder with everything needed to search a set of images.

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
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Callable, Sequence, TypeVar

import numpy as np

from indexes import cap_threads
from retrieval import query, sketches
from retrieval.calibration import Calibration, biases_of, calibration_of, state_of
from retrieval.catalog import Catalog
from retrieval.conditions import Condition
from retrieval.encoders import check_same_encoder, load_recorded_encoder, load_recorded_text_tower
from retrieval.errors import CollectionError, QueryError
from retrieval.indexed import INDEX_FILES, Indexed, SearchableIndex, is_flat
from retrieval.manifest import IndexRecord, Manifest
from retrieval.query_cache import QueryCache
from retrieval.query_vectors import QueryVectors, stored_vectors
from retrieval.rank.relevance import RelevanceModel, relevance_model, sample
from retrieval.rank.rerank import Reranker
from retrieval.rank.rerankers import load_reranker
from retrieval.rank.templates import in_sentences
from retrieval.results import Results
from retrieval.searching import Nearest, found_hits, refined_hits
from retrieval.tuning import Encode
from retrieval.types import CAPTIONS, IMAGES, SUM, Encoder, Hit, TextEncoder
from retrieval.vectors import VectorStore
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import every

Found = TypeVar("Found")
VECTORS_FOLDER = "vectors"
DEFAULT_K = 10
FEW_TEXTS = 64  # are embedded sooner without torch than it is imported


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
        self._text_tower: TextEncoder | None = None
        self._device = self._precision = "auto"
        self._remembers_queries = True
        self._query_cache: QueryCache | None = None

    def _open_vectors(self) -> None:
        self._rewrites, self._generation = self.catalog.rewrites, self.catalog.generation
        folder = vectors_folder(self.path, self._rewrites)
        self.vectors = VectorStore(folder, self.manifest.encoder.dim, self.catalog.vector_rows)
        self._indexes: dict[str, SearchableIndex] = {}
        self._known: dict[str, tuple[int, Any]] = {}  # at which generation, and what
        self._calibration: tuple[Calibration | None, object] | None = None  # found or not, as of which state
        self._biases = np.zeros(0, np.float32)
        self._allowed: dict[tuple, np.ndarray] = {}

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
        self._open_anew()
        return True

    def _open_anew(self) -> None:
        self.manifest = Manifest.load(self.path)
        self._open_vectors()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: Encoder | None = None,
        device: str = "auto",
        precision: str = "auto",
        remember_queries: bool = True,
    ) -> Collection:
        """Open for searching, at the last committed state.

        encoder            use this one instead of loading the one on record; it must be the same
        device, precision  as for `load_encoder`; device "cpu" keeps the index there as well
        remember_queries   keep vectors of queries in the collection; see `retrieval.query_cache`

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
        collection._remembers_queries = remember_queries
        return collection

    def close(self) -> None:
        if self._query_cache is not None:
            self._query_cache.close()
        self.catalog.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Images to search. Counted once per commit, as every search asks."""
        return self._once_per_commit(IMAGES, lambda: self.catalog.count("indexed"))

    def _once_per_commit(self, what: str, find: Callable[[], Found]) -> Found:
        """What `find` makes of the catalogue and the vectors, kept for as long as they stay as they are."""
        generation = self.catalog.generation
        known = self._known.get(what)
        if known is None or known[0] != generation:
            known = self._known[what] = generation, find()
        return known[1]

    def load_encoder(self) -> Encoder:
        """The encoder that made this collection, loaded once. Raises EncoderMismatchError."""
        if self._encoder is None:
            self._encoder = load_recorded_encoder(
                self.manifest.encoder, str(self.path), device=self._device, precision=self._precision
            )
        return self._encoder

    def encoder_for(self, queries: Sequence[query.Query]) -> Encoder | TextEncoder:
        """What embeds these queries: for a few texts the text tower alone, where that takes no torch."""
        if self._encoder is None and len(queries) <= FEW_TEXTS and all(one.image is None for one in queries):
            if self._text_tower is None:
                self._text_tower = load_recorded_text_tower(
                    self.manifest.encoder, device=self._device, precision=self._precision
                )
            if self._text_tower is not None:
                return self._text_tower
        return self.load_encoder()

    def index(self, within: str = IMAGES) -> SearchableIndex:
        """The index over the committed vectors.

        within  IMAGES or CAPTIONS
        """
        if within not in self._indexes:
            if not self._was_rewritten() and not self._indexes and self.catalog.generation != self._generation:
                self._open_anew()  # the file of the index may hold rows that were committed since
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

    def search(
        self,
        queries: str | PathLike | query.Query | Sequence[str | PathLike | query.Query],
        k: int | None = None,
        *,
        within: str = IMAGES,
        where: str | Condition | None = None,
        near: tuple[float, float, float] | None = None,
        fusion: str = SUM,
        templates: str = AUTO,
        calibrated: bool = True,
        min_score: float | str | None = None,
        dedup: float | None = None,
        diverse: float | None = None,
        rerank: Reranker | str | None = None,
    ) -> Results:
        """The k best matches of each query, best first, query after query.

        queries     texts, paths of image files (as text or Path), or several terms: see `retrieval.query_grammar`
        k           1..how many there are; None means 10, or all if there are fewer
        within      IMAGES, or CAPTIONS: captions that sources gave, if they are embedded
        where       only images of which this is true; see `retrieval.where`. Fewer than k are found
                    where fewer are
        near        (latitude, longitude, kilometres): only images taken within that distance
        fusion      of terms: "sum", "product" or "slerp"; see `retrieval.fusion.fuse`
        templates   ON, OFF or AUTO: put short queries into sentences; see `retrieval.rank.templates`
        calibrated  text queries for images, if the collection is: the order is then that of scores
                    less a bias of each image, and the scores shown, which are cosines, need not descend
        min_score   leave out images that score lower; AUTO: those that are likely not meant at all
        dedup       cosine from which on images are one picture, which comes once
        diverse     weight of the score, 0 to 1, against being unlike the images before
        rerank      looks at the best images again, or its name; see `retrieval.rank.rerankers`

        Raises QueryError, RerankError, and EncoderError for a name to rerank by.
        """
        asked = [queries] if isinstance(queries, str | PathLike | query.Query) else queries
        parsed = [one if isinstance(one, query.Query) else query.parse(fspath(one)) for one in asked]
        if isinstance(rerank, str):
            rerank = self.reranker(rerank)
        wanted = Wanted(
            k, within, every(where, near_to=near), fusion, templates, calibrated,
            Refinement(min_score, dedup, diverse, rerank),
        )
        return self.answer(parsed, wanted)

    def answer(self, queries: Sequence[query.Query], wanted: Wanted) -> Results:
        """`search` for parsed queries."""
        wanted = replace(wanted, k=self.checked_k(wanted.k, wanted.within))
        if wanted.where and not self.allowed(wanted.where, wanted.within).any():
            return Results()  # for which no encoder has to be loaded
        vectors = self.query_vectors(queries, wanted)
        return Results(hit for hits in self.search_each(queries, vectors, wanted) for hit in hits)

    def reranker(self, name: str) -> Reranker:
        """What `search` may look at results again with. Raises EncoderError, RerankError."""
        return load_reranker(name, self.load_encoder(), device=self._device, precision=self._precision)

    def query_vectors(self, queries: Sequence[query.Query], wanted: Wanted = Wanted()) -> np.ndarray:
        """Vectors of parsed queries, float32 (q, d), unit rows. Raises QueryError."""
        encoder = self.manifest.encoder
        if self._remembers_queries and self._query_cache is None:
            self._query_cache = QueryCache(self.path, f"{encoder.fingerprint} {self._precision}", encoder.dim)

        def encode(new: Sequence[query.Query]) -> np.ndarray:
            return query.embed(new, self.encoder_for(new))

        found = QueryVectors(encoder.dim, encode, self._stored, self._query_cache)
        return found.of(in_sentences(queries, encoder.name, wanted.templates), wanted.fusion)

    def _stored(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        return self._undisturbed(lambda: stored_vectors(self.path, self.catalog, self.vectors, ids))

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

    def checked_k(self, k: int | None, within: str = IMAGES) -> int:
        """Raises QueryError unless k is in 1..how many there are to find."""
        self._index_record(within)
        n = len(self) if within == IMAGES else self._once_per_commit(within, lambda: self.catalog.captions.counts()[1])
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

    def search_vectors(self, shown: Sequence[str], vectors: np.ndarray, k: int, *, within: str = IMAGES) -> list[Hit]:
        """What is nearest to vectors (q, d), float32 unit rows, whatever they are of. shown: q names."""
        queries = [query.Query(name) for name in shown]
        each = self.search_each(queries, vectors, Wanted(k, within, calibrated=False))
        return [hit for hits in each for hit in hits]

    def search_each(self, queries: Sequence[query.Query], vectors: np.ndarray, wanted: Wanted) -> list[list[Hit]]:
        """The hits of each of q queries by its vector (q, d); wanted.k is what `checked_k` returned."""
        if wanted.refinement and wanted.within != IMAGES:
            raise QueryError(f"Captions are not reranked, collapsed or left out; search {IMAGES} for that.")

        def find() -> list[list[Hit]]:
            nearest = self._nearest(wanted)
            if wanted.refinement:
                return refined_hits(
                    nearest, self.vectors, self.catalog, queries, vectors, wanted.k, wanted.refinement,
                    self._relevance(wanted.refinement),
                )
            return found_hits(nearest, self._owners, queries, vectors, wanted)

        return self._undisturbed(find)

    def _nearest(self, wanted: Wanted) -> Nearest:
        index = self.index(wanted.within)  # first: it may open the vectors anew
        biases = self.biases() if wanted.calibrated and wanted.within == IMAGES else None
        allowed = wanted.where and self.allowed(wanted.where, wanted.within)
        return Nearest(index, biases, allowed, lambda: self.allowed(None, wanted.within))

    def _owners(self, rows: Sequence[int], wanted: Wanted) -> dict[int, list[tuple[str, ...]]]:
        """Vector row -> whose it is: (id, path), and the caption if captions are wanted."""
        if wanted.within == CAPTIONS:
            return {row: [*found] for row, found in self.catalog.captions.of_rows(rows, wanted.where).items()}
        return {row: [one] for row, one in self.catalog.documents_of_rows(rows).items()}

    def _relevance(self, how: Refinement) -> RelevanceModel | None:
        if how.min_score is None:
            return None
        return self._once_per_commit("relevance", lambda: relevance_model(
            self.vectors.chosen(sample(self.indexed().live_rows())), self.encoder_for(())
        ))

    def _undisturbed(self, find: Callable[[], Found]) -> Found:
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
