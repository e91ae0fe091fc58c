"""Reading folders laid out as clip-retrieval writes them and LAION publishes them.

    img_emb/img_emb_0.npy            (n, d) float16 or float32
    metadata/metadata_0.parquet      n rows; row i is about row i of the vectors
    img_emb/img_emb_1.npy ...        numbered from 0, perhaps padded with zeros

Columns of the metadata: image_path, url and key name the image (one of them suffices); caption,
width, height and others are taken where they are there, the rest is passed over.
https://github.com/rom1504/clip-retrieval
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Iterator

import numpy as np

from retrieval.corpus.parquet import require_parquet
from retrieval.errors import NOTICE, ExchangeError
from retrieval.exchange.entries import BATCH_ROWS, Batch, Entry, file_now, no_file
from retrieval.images import ImageFacts

log = logging.getLogger("retrieval")
NAMES = ("image_path", "url", "key")
_FACTS = tuple(field.name for field in fields(ImageFacts))
_COLUMNS = (*NAMES, "id", "caption", "captions", *_FACTS)


@dataclass(frozen=True)
class _Part:
    """One file of vectors and the metadata of the same number. columns: those to read."""

    vectors: Path
    metadata: Path
    n: int
    dim: int
    columns: list[str]


class ClipFolder:
    """A `Source`. The headers of all files are read at once, so that nothing turns up half-way.

    images  relative image paths are below this folder

    Raises ExchangeError if files are missing, damaged, or do not fit each other.
    """

    kind = "clip-retrieval's layout"
    model = None

    def __init__(self, folder: Path, images: Path):
        self.folder, self.images = folder, images
        vectors = _numbered(folder, "img_emb", "npy")
        metadata = _numbered(folder, "metadata", "parquet")
        if not vectors:
            raise ExchangeError(
                f"{folder} holds no embeddings: looked for img_emb_0.npy and so on, there and in its "
                "folders, as `clip-retrieval inference` writes them."
            )
        self._parts = [_look_at(file, metadata.get(number)) for number, file in sorted(vectors.items())]
        unused = sorted(metadata.keys() - vectors.keys())
        if unused:
            log.log(NOTICE, "%d files of metadata have no vectors (the first: %s); they are left out.",
                    len(unused), metadata[unused[0]])
        first = self._parts[0]
        for part in self._parts:
            if part.dim != first.dim:
                raise ExchangeError(
                    f"{first.vectors} holds {first.dim}-d vectors, but {part.vectors} {part.dim}-d ones. "
                    "They are of different models; bring them in one by one."
                )
        self.dim, self.n = first.dim, sum(part.n for part in self._parts)

    def batches(self) -> Iterator[Batch]:
        for part in self._parts:
            vectors, done = _open_vectors(part.vectors), 0
            for rows in _metadata_rows(part):
                yield Batch(np.asarray(vectors[done : done + len(rows)]), [self._entry(row) for row in rows])
                done += len(rows)

    def _entry(self, row: dict[str, Any]) -> Entry:
        path, url, key = (_text(row.get(name)) for name in NAMES)
        file = file_now(self.images / path) if path else None
        # Of downloaded shards image_path is a number; the url says more.
        name = (path if file or not url else url) or key or ""
        captions = row.get("captions") or [row.get("caption")]
        return Entry(
            file or no_file(name), _text(row.get("id")) or name,
            tuple(filter(None, map(_text, captions))), _facts(row),
        )


def _numbered(folder: Path, stem: str, suffix: str) -> dict[int, Path]:
    """The files by number, in the folder and those right below it."""
    found: dict[int, Path] = {}
    for path in sorted([*folder.glob(f"{stem}_*.{suffix}"), *folder.glob(f"*/{stem}_*.{suffix}")]):
        match = re.fullmatch(rf"{stem}_(\d+)\.{suffix}", path.name)
        if not match:
            continue
        other = found.setdefault(int(match[1]), path)
        if other != path:
            raise ExchangeError(f"{other} and {path} have the same number. Keep one of them in {folder}.")
    return found


def _look_at(vectors: Path, metadata: Path | None) -> _Part:
    if metadata is None:
        name = vectors.name.replace("img_emb", "metadata").replace(".npy", ".parquet")
        raise ExchangeError(
            f"{vectors} has no metadata: there is no {name}. Without it nobody knows which images "
            "the vectors are of."
        )
    n, dim = _open_vectors(vectors).shape
    _, parquet = require_parquet()
    try:
        with parquet.ParquetFile(metadata) as file:
            rows, names = file.metadata.num_rows, file.schema_arrow.names
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _unreadable(metadata, error) from error
    if rows != n:
        raise ExchangeError(
            f"{vectors} holds {n} vectors, but {metadata} {rows} rows. One of them is incomplete or of "
            "another run; row i must be about vector i."
        )
    if not set(NAMES) & set(names):
        raise ExchangeError(
            f"{metadata} does not name the images: it has none of the columns {', '.join(NAMES)}, "
            f"but {', '.join(names)}."
        )
    return _Part(vectors, metadata, n, dim, [name for name in _COLUMNS if name in names])


def _open_vectors(path: Path) -> np.ndarray:
    """Memory-mapped (n, d) of a float type. Raises ExchangeError."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ExchangeError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}, not embeddings: float16 or float32 "
            "of shape (n, d)."
        )
    return vectors


def _metadata_rows(part: _Part) -> Iterator[list[dict[str, Any]]]:
    _, parquet = require_parquet()
    try:
        with parquet.ParquetFile(part.metadata) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=part.columns):
                yield batch.to_pylist()
    except (OSError, ValueError) as error:
        raise _unreadable(part.metadata, error) from error


def _facts(row: dict[str, Any]) -> ImageFacts | None:
    """What else is said of the image, if that is at least its size in pixels."""
    width, height = _pixels(row.get("width")), _pixels(row.get("height"))
    if not (width and height):
        return None
    others = {name: row.get(name) for name in _FACTS if name not in ("width", "height")}
    return ImageFacts(width, height, **{name: _plain(value) for name, value in others.items()})


def _pixels(value: Any) -> int | None:
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return int(value) if number and value >= 1 else None


def _plain(value: Any) -> str | float | None:
    """What SQLite keeps: other programs' columns of these names may hold anything."""
    if value is None or isinstance(value, (str, int)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, float) and math.isnan(value):
        return None
    return str(value) or None


def _unreadable(path: Path, error: Exception) -> ExchangeError:
    reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
    return ExchangeError(f"{path} cannot be read: {reason}. It may be incomplete; fetch or write it again.")
