"""Vectors of images under another encoder than their collection's, kept so that each is made once.

    <cache>/rerank/<fingerprint>.sqlite    content hash -> float16 vector
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from retrieval.errors import RerankError

_AT_ONCE = 500  # below SQLite's limit of bound variables
_WAIT_SECONDS = 30.0


class VectorCache:
    """The kept vectors, float16 (..., d) of one shape, of one encoder in one folder."""

    def __init__(self, folder: Path, fingerprint: str, shape: tuple[int, ...]):
        self._path = folder / (re.sub(r"[^\w.-]", "_", fingerprint) + ".sqlite")
        self._shape = shape

    def get(self, contents: Sequence[str]) -> dict[str, np.ndarray]:
        """Those there are, by content hash, as float32. Raises RerankError if the file is damaged."""
        if not self._path.exists():
            return {}
        found: dict[str, np.ndarray] = {}
        with self._opened() as db:
            for start in range(0, len(contents), _AT_ONCE):
                part = contents[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                for content, vector in self._run(db, f"SELECT content, vector FROM vectors WHERE content IN ({marks})", part):
                    found[content] = np.frombuffer(vector, np.float16).astype(np.float32).reshape(self._shape)
        return found

    def put(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep these. Raises RerankError if they cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RerankError(f"{self._path.parent} cannot be written: {error.strerror or error}. {_ELSEWHERE}") from error
        rows = [(content, vector.astype(np.float16).tobytes()) for content, vector in vectors.items()]
        with self._opened() as db:
            self._run(db, "BEGIN IMMEDIATE")
            self._run(db, "CREATE TABLE IF NOT EXISTS vectors (content TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
            for row in rows:
                self._run(db, "INSERT OR REPLACE INTO vectors VALUES (?, ?)", row)
            self._run(db, "COMMIT")

    def _opened(self) -> closing[sqlite3.Connection]:
        try:
            return closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _run(self, db: sqlite3.Connection, sql: str, values: Sequence = ()) -> list[tuple]:
        try:
            return db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> RerankError:
        return RerankError(f"{self._path} cannot be used ({error}). Delete it, or: {_ELSEWHERE}")


_ELSEWHERE = "Vectors for reranking are kept there; set RETRIEVAL_CACHE to a folder that can be written."
