"""Vectors of queries that were asked before, beside the collection: who asks again waits for no encoder.

    photos.collection/queries.sqlite    derived; may be deleted at any time

Whatever is wrong with the file, or with the disk, is no error: queries are encoded then.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Iterable, Mapping, Sequence

import numpy as np

FILE_NAME = "queries.sqlite"
MOST_BYTES = 128 * 2**20  # of vectors; 64,000 of 512 dimensions
_LOCK_SECONDS = 1.0  # then go on without
_AT_ONCE = 500  # below SQLite's limit of bound variables
_WRITTEN_AT_ONCE = 64  # vectors: a write of its own for each would slow down whoever asks one by one
_SCHEMA = """CREATE TABLE IF NOT EXISTS vectors (
    number INTEGER PRIMARY KEY,  -- grows: the lowest are the oldest
    key BLOB NOT NULL UNIQUE,
    vector BLOB NOT NULL         -- float32
)"""


class QueryCache:
    """space: what makes vectors comparable, such as the encoder's fingerprint; others are not found.

    What is put is written when there is enough of it, and by `close`.
    """

    def __init__(self, collection: Path, space: str, dim: int, *, most: int | None = None):
        self._path = collection / FILE_NAME
        self._space, self._dim = space.encode(), dim
        self._most = most or max(1, MOST_BYTES // (4 * dim))
        self._unwritten: dict[bytes, np.ndarray] = {}
        self._reader: sqlite3.Connection | None = None

    def key(self, kind: str, content: str | bytes) -> bytes:
        """What a query's vector is kept by. kind: "text" or "image"; content of an image: its file's."""
        content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        space = json.dumps([kind, len(self._space)]).encode() + self._space
        return hashlib.blake2b(space + content, digest_size=16).digest()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Vectors float32 (d,) of those keys that are there."""
        keys = list(keys)
        found = {key: self._unwritten[key] for key in keys if key in self._unwritten}
        written = [key for key in keys if key not in found]
        try:
            for start in range(0, len(written), _AT_ONCE):
                found |= self._read(written[start : start + _AT_ONCE])
        except sqlite3.Error:
            self._close_reader()
        return found

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep these, and drop the oldest beyond what there is room for."""
        self._unwritten |= vectors
        if len(self._unwritten) >= _WRITTEN_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what was put."""
        if not self._unwritten:
            return
        with suppress(sqlite3.OperationalError, OSError):  # locked, read-only, full
            try:
                self._write(self._unwritten)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged: begun anew
                self._path.unlink(missing_ok=True)
                self._write(self._unwritten)
        self._unwritten = {}

    def close(self) -> None:
        self.flush()
        self._close_reader()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        if self._reader is None:
            if not self._path.exists():
                return {}
            self._reader = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCK_SECONDS, check_same_thread=False
            )
            weakref.finalize(self, self._reader.close)  # where nobody closes it
        sql = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(keys))})"
        return {
            key: np.frombuffer(vector, np.float32)
            for key, vector in self._reader.execute(sql, keys) if len(vector) == 4 * self._dim
        }

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _write(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        db = sqlite3.connect(self._path, timeout=_LOCK_SECONDS)
        try:
            db.execute("PRAGMA synchronous = OFF")  # what a power cut damages is made anew
            with db:
                db.execute(_SCHEMA)
                db.executemany(
                    "INSERT OR IGNORE INTO vectors (key, vector) VALUES (?, ?)",
                    ((key, np.ascontiguousarray(vector, np.float32).tobytes()) for key, vector in vectors.items()),
                )
                db.execute("DELETE FROM vectors WHERE number <= (SELECT max(number) FROM vectors) - ?", (self._most,))
        finally:
            db.close()
