"""Writing a collection as clip-retrieval lays out embeddings; see `retrieval.exchange.clip_folder`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Callable, Sequence

import numpy as np
from numpy.lib import format as npy

from retrieval.collection import Collection
from retrieval.corpus.parquet import require_parquet
from retrieval.documents import Document
from retrieval.errors import ExchangeError
from retrieval.exchange.entries import BATCH_ROWS
from retrieval.exchange.folders import whole_folder
from retrieval.images import ImageFacts

PART_ROWS = 1_000_000


@dataclass(frozen=True)
class ExportReport:
    """What was written. files: of vectors, with as many of metadata.

    uncaptioned  images without a first caption that is embedded; if any, no captions' vectors were written
    """

    folder: Path
    encoder: str
    images: int
    files: int
    uncaptioned: int


def export_collection(
    path: Path,
    folder: Path,
    *,
    part_rows: int = PART_ROWS,
    on_start: Callable[[int], None] = lambda total: None,
    on_batch: Callable[[int], None] = lambda count: None,
) -> ExportReport:
    """Write the collection's vectors, bit by bit as they are kept, and what is known of the images.

    Whole or not at all, in as many files as `part_rows` makes necessary. Raises ExchangeError if
    the folder holds something or there is nothing to export, CollectionError.
    """
    require_parquet()
    with Collection.open(path) as collection:
        n = len(collection)
        if not n:
            raise ExchangeError(f"{path} holds no images yet; there is nothing to export.")
        on_start(n)
        text_rows = collection.catalog.captions.first_rows()
        kinds = ("img_emb",) if len(text_rows) < n else ("img_emb", "text_emb")
        with whole_folder(folder) as place, _Parts(place, collection.vectors.dim, n, part_rows, kinds) as parts:
            for start in range(0, collection.vectors.n, BATCH_ROWS):
                stop = min(start + BATCH_ROWS, collection.vectors.n)
                found = collection.catalog.described(start, stop)
                rows = np.array([row for row, _ in found], np.int64) - start
                vectors = [collection.vectors[start:stop][rows]]
                if "text_emb" in kinds:
                    vectors.append(collection.vectors.take_halves(np.array([text_rows[row] for row, _ in found], np.int64)))
                parts.write(vectors, [document for _, document in found])
                on_batch(len(found))
        return ExportReport(folder, collection.manifest.encoder.name, parts.written, parts.files, n - len(text_rows))


class _Parts:
    """Files of vectors, one of each kind, and of metadata; begun together when those before are full."""

    def __init__(self, folder: Path, dim: int, n: int, part_rows: int, kinds: Sequence[str]):
        self._folder, self._dim, self._part_rows, self._kinds = folder, dim, part_rows, kinds
        # Readers that sort by name, not by number, must find the same order.
        self._digits = len(str((n - 1) // part_rows))
        self._open: _Part | None = None
        self.files = self.written = 0
        for name in (*kinds, "metadata"):
            (folder / name).mkdir()

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, vectors: Sequence[np.ndarray], documents: Sequence[Document]) -> None:
        """vectors (b, d) float16, of each kind"""
        done = 0
        while done < len(documents):
            if self._open is None:
                number = str(self.files).zfill(self._digits)
                self._open = _Part(
                    [self._folder / kind / f"{kind}_{number}.npy" for kind in self._kinds],
                    self._folder / "metadata" / f"metadata_{number}.parquet", self._dim,
                )
                self.files += 1
            stop = min(len(documents), done + self._part_rows - self._open.n)
            self._open.write([one[done:stop] for one in vectors], documents[done:stop])
            self.written += stop - done
            done = stop
            if self._open.n == self._part_rows:
                self._close()

    def _close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None


class _Part:
    """Files of vectors and one of metadata, growing side by side."""

    def __init__(self, vectors: Sequence[Path], metadata: Path, dim: int):
        _, parquet = require_parquet()
        self.n, self._dim = 0, dim
        self._schema = _schema()
        self._vectors = [open(path, "wb") for path in vectors]
        for file in self._vectors:
            _write_header(file, 0, dim)
        self._metadata = parquet.ParquetWriter(metadata, self._schema)

    def write(self, vectors: Sequence[np.ndarray], documents: Sequence[Document]) -> None:
        pyarrow, _ = require_parquet()
        for file, part in zip(self._vectors, vectors):
            file.write(np.ascontiguousarray(part, np.float16).tobytes())
        rows = [_row(document) for document in documents]
        self._metadata.write_table(pyarrow.Table.from_pylist(rows, schema=self._schema))
        self.n += len(documents)

    def close(self) -> None:
        for file in self._vectors:
            file.seek(0)
            _write_header(file, self.n, self._dim)  # NumPy leaves room for the first axis to grow
            file.close()
        self._metadata.close()


def _write_header(file: BinaryIO, n: int, dim: int) -> None:
    npy.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (n, dim)})


def _schema() -> Any:
    pyarrow, _ = require_parquet()
    text = pyarrow.string()
    types = {"int": pyarrow.int64(), "float": pyarrow.float64(), "str": text}
    return pyarrow.schema({
        "image_path": text, "id": text, "caption": text, "captions": pyarrow.list_(text),
        **{field.name: types[field.type.split()[0]] for field in fields(ImageFacts)},  # "float | None"
    })


def _row(document: Document) -> dict[str, Any]:
    """caption is the first, which other programs read; captions are all."""
    return {
        "image_path": document.file.path, "id": document.id,
        "caption": document.captions[0] if document.captions else None,
        "captions": list(document.captions),
        **(asdict(document.facts) if document.facts else {}),
    }
