"""Making a collection of embeddings that another program made, without encoding anything anew."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np

from retrieval import encoders
from retrieval.catalog import Catalog
from retrieval.documents import Document
from retrieval.errors import NOTICE, ExchangeError
from retrieval.exchange import check
from retrieval.exchange.clip_folder import ClipFolder
from retrieval.exchange.entries import Batch, Entry, Source, is_at_hand, no_file
from retrieval.exchange.folders import require_vacant, whole_folder
from retrieval.exchange.rclip import RclipDatabase, is_database
from retrieval.manifest import EncoderRecord, Manifest
from retrieval.stored import StoredCollection
from retrieval.types import Encoder
from retrieval.vectors import VECTORS_FOLDER, VectorStore

log = logging.getLogger("retrieval")
# What rounding unit vectors to float16 may change of their length: those are kept bit by bit.
_UNIT_TOLERANCE = 5e-4


@dataclass(frozen=True)
class ImportReport:
    """What came in.

    at_hand   images whose files are on this machine, as they were embedded
    renamed   images of a path or id that another one had before
    compared  images encoded to check the model; cosine is their mean, None without any
    skipped   (id, reason) of those without a usable vector
    """

    collection: Path
    source: str
    encoder: str
    images: int
    at_hand: int
    renamed: int
    compared: int
    cosine: float | None
    skipped: list[tuple[str, str]]


def import_embeddings(
    embeddings: Path,
    path: Path,
    model: str | None = None,
    *,
    images: Path = Path(),
    device: str = "auto",
    precision: str = "auto",
    force: bool = False,
    on_start: Callable[[int], None] = lambda total: None,
    on_batch: Callable[[int], None] = lambda count: None,
) -> ImportReport:
    """Make a collection at `path` of a folder in clip-retrieval's layout or a database of rclip.

    The model is loaded: its fingerprint goes on record, and up to 8 images that are at hand are
    encoded to see that it made these vectors. Files at hand are taken for unchanged since then.

    model   the one that made the vectors; None is enough where the source tells
    images  relative image paths are below this folder
    force   bring in vectors that do not look like the model's

    Whole or not at all. Raises ExchangeError, EncoderError.
    """
    require_vacant(path)
    source = _open(embeddings, images)
    encoder = encoders.load_encoder(
        _model_for(source, embeddings, model), device=device, precision=precision
    )
    if encoder.dim != source.dim:
        raise ExchangeError(
            f"{embeddings} holds {source.dim}-d vectors, but {encoder.name} makes {encoder.dim}-d ones. "
            "Name the model that made them with --model; `retrieval models` lists all."
        )
    on_start(source.n)
    with whole_folder(path) as place, Catalog.create(place) as catalog:
        store = VectorStore(place / VECTORS_FOLDER, source.dim, 0)
        newcomers = _Newcomers()
        for batch in source.batches():
            documents, vectors = newcomers.admit(batch)
            rows = store.append(vectors)
            catalog.commit(documents, rows)
            store.n += len(rows)
            on_batch(len(batch.entries))
        if not store.n:
            name, reason = newcomers.skipped[0]
            raise ExchangeError(f"None of the {source.n} vectors in {embeddings} can be used. The first, {name}: {reason}.")
        comparison = newcomers.sample.compare(encoder)
        _judge(comparison, embeddings, encoder, force)
        record = EncoderRecord(encoder.name, encoder.dim, encoder.fingerprint)
        StoredCollection(place, Manifest(record), catalog).refresh_index(encoder.encode_texts)
    return ImportReport(
        path, source.kind, encoder.name, store.n, newcomers.sample.offered, newcomers.renamed,
        comparison.images, comparison.cosine, newcomers.skipped,
    )


def _open(embeddings: Path, images: Path) -> Source:
    if embeddings.is_dir():
        return ClipFolder(embeddings, images)
    if not embeddings.exists():
        raise ExchangeError(f"{embeddings} does not exist. Give a folder with img_emb and metadata, or rclip's database.")
    if is_database(embeddings):
        return RclipDatabase(embeddings)
    raise ExchangeError(
        f"{embeddings} is neither a folder in clip-retrieval's layout nor a database of rclip."
    )


def _model_for(source: Source, embeddings: Path, model: str | None) -> str:
    if model == encoders.AUTO:
        raise ExchangeError("--model auto would be a guess. Name the model that made the vectors.")
    if model is None and source.model is None:
        raise ExchangeError(
            f"{embeddings} does not say which model made its {source.dim}-d vectors. Name it: --model "
            "MODEL/WEIGHTS, for example ViT-B-32-quickgelu/openai."
        )
    if model is None:
        log.log(NOTICE, "%s was made with %s, by its version.", embeddings, source.model)
    return model or source.model


@dataclass
class _Newcomers:
    """Vectors made unit, names made distinct, and a count of what had to be done for it."""

    sample: check.Sample = field(default_factory=check.Sample)  # of those at hand
    renamed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    _paths: dict[str, int] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)

    def admit(self, batch: Batch) -> tuple[list[Document], np.ndarray]:
        """Documents (m) and their unit vectors (m, d) of those entries that have a direction."""
        vectors, lengths = _unit(batch.vectors)
        good = np.isfinite(lengths) & (lengths > 0)
        documents = []
        for entry, vector, is_good, length in zip(batch.entries, vectors, good.tolist(), lengths.tolist()):
            if is_good:
                documents.append(self._document(entry))
                if is_at_hand(documents[-1].file):
                    self.sample.offer(entry.file.path, vector)
            else:
                reason = "its vector is all zeros" if length == 0 else "its vector is damaged (NaN, infinite, or cut off)"
                self.skipped.append((entry.id or entry.file.path, reason))
        return documents, vectors[good]

    def _document(self, entry: Entry) -> Document:
        path = _distinct(entry.file.path, self._paths)
        file = entry.file if path == entry.file.path else no_file(path)
        wanted = entry.id or entry.file.path
        id = _distinct(wanted, self._ids)
        self.renamed += path != entry.file.path or id != wanted
        return Document(file, id, facts=entry.facts, captions=entry.captions)


def _distinct(name: str, counts: dict[str, int]) -> str:
    """The name if it is new, else with #2, #3 ... behind. Notes it in `counts`."""
    unique = name
    while unique in counts:
        counts[name] += 1
        unique = f"{name}#{counts[name]}"
    counts[unique] = 1
    return unique


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows (b, d) at unit length, and the lengths (b,) that they had."""
    with np.errstate(all="ignore"):  # what is not finite is sorted out by its length
        wide = np.asarray(vectors, np.float64)
        lengths = np.linalg.norm(wide, axis=1)
        is_unit = np.abs(lengths - 1) <= _UNIT_TOLERANCE
        divisors = np.where(is_unit, 1.0, lengths)
        return (wide / divisors[:, None]).astype(np.float32), lengths


def _judge(comparison: check.Comparison, embeddings: Path, encoder: Encoder, force: bool) -> None:
    if comparison.cosine is None:
        log.log(NOTICE, "No image of %s is at hand and readable, so it could not be checked that %s "
                "made these vectors.", embeddings, encoder.name)
        return
    if comparison.fits:
        return
    finding = (
        f"The vectors in {embeddings} do not look like {encoder.name}'s: cosine "
        f"{comparison.cosine:.2f} over {comparison.images} images, where its own would be above "
        f"{check.ENOUGH}. Another model, or other weights?"
    )
    if not force:
        raise ExchangeError(f"{finding} Name the right one with --model, or bring them in anyway with --force.")
    log.warning(finding)
