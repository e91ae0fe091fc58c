"""Reading the database of rclip, an image search for the command line.

Its table `images` has a row per file: filepath, modified_at (seconds, as the file system says
it), size (bytes), vector (float32, native byte order), deleted (NULL or 1). Later versions add columns;
`db_version` counts them, and also tells which of rclip's two models made the vectors.
https://github.com/yurijmikhalevich/rclip
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Iterator

import numpy as np

from retrieval.documents import FileState
from retrieval.errors import ExchangeError
from retrieval.exchange.entries import BATCH_ROWS, Batch, Entry, file_now, no_file

_MAGIC = b"SQLite format 3\0"
_COLUMNS = {"filepath", "modified_at", "size", "vector", "deleted"}
_SAME_SECONDS = 1e-6  # a double holds today's times to a quarter of that
_LIVE = "FROM images WHERE NOT coalesce(deleted, 0)"
# rclip 3.0 changed its model, and with it the database from version 2 to 3.
_FIRST_MODEL, _SECOND_MODEL = "ViT-B-32-quickgelu/openai", "ViT-B-32-256/datacomp_s34b_b86k"


def is_database(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class RclipDatabase:
    """A `Source`. Raises ExchangeError if the file is not rclip's, or holds nothing."""

    kind = "rclip's database"

    def __init__(self, path: Path):
        self.path = path
        columns = {name for _, name, *_ in self._select("PRAGMA table_info(images)")}
        if not _COLUMNS <= columns:
            raise ExchangeError(
                f"{path} is not a database of rclip (no table images with {', '.join(sorted(_COLUMNS))}). "
                "rclip keeps it as db.sqlite3 in its data folder."
            )
        ((self.n, width),) = self._select(f"SELECT count(*), max(length(vector)) {_LIVE}")
        if not self.n:
            raise ExchangeError(f"{path} holds no images. Let rclip index some first.")
        self.dim = width // 4
        versions = self._select("SELECT max(version) FROM db_version")
        self.model = _SECOND_MODEL if (versions[0][0] or 1) >= 3 else _FIRST_MODEL

    def batches(self) -> Iterator[Batch]:
        rows = self._rows(f"SELECT filepath, modified_at, size, vector {_LIVE} ORDER BY id")
        for part in _parts(rows):
            vectors = np.full((len(part), self.dim), np.nan, np.float32)  # NaN: what does not fit is no vector
            for vector, (_, _, _, stored) in zip(vectors, part):
                if len(stored) == 4 * self.dim:
                    vector[:] = np.frombuffer(stored, np.float32)
            yield Batch(vectors, [Entry(_state(*row[:3])) for row in part])

    def _select(self, sql: str) -> list[tuple]:
        return list(self._rows(sql))

    def _rows(self, sql: str) -> Iterator[tuple]:
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as database:
                yield from database.execute(sql)
        except sqlite3.Error as error:
            raise ExchangeError(f"{self.path} cannot be read as a database of rclip: {error}.") from error


def _state(path: str, modified_at: float, size: int) -> FileState:
    """The file as it is now if it is still the one that was embedded."""
    now = file_now(path)
    same = now and now.size == size and abs(now.mtime_ns / 1e9 - modified_at) < _SAME_SECONDS
    return now if same else no_file(path)


def _parts(rows: Iterator[tuple]) -> Iterator[list[tuple]]:
    part = []
    for row in rows:
        part.append(row)
        if len(part) == BATCH_ROWS:
            yield part
            part = []
    if part:
        yield part
