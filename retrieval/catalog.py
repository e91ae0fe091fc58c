"""The catalogue: one SQLite row per image, its captions, and how many vector rows are committed.

A batch's documents and the count of vector rows they own are written in one transaction, so
after a kill the catalogue and the vectors agree on the last committed batch.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import numpy as np

from retrieval.captions import Captions, create_tables, for_each_row, has_tables, stand_in
from retrieval.conditions import Condition, add_functions
from retrieval.documents import Document, FileState, Holder, ImageFile, Takeover
from retrieval.errors import CollectionError
from retrieval.images import ImageFacts

FILE_NAME = "catalog.sqlite"
LOCK_SECONDS = 30.0  # how long to wait for another process that is committing
_SCHEMA = """
CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content_hash TEXT,
    width INTEGER, height INTEGER,
    taken_at TEXT, camera TEXT, lat REAL, lon REAL,
    row INTEGER UNIQUE,        -- vector row; NULL while failed
    state TEXT NOT NULL CHECK (state IN ('indexed', 'failed')),
    error TEXT
);
CREATE TABLE progress (
    vector_rows INTEGER NOT NULL,  -- committed rows of vectors, dead ones included
    generation INTEGER NOT NULL    -- counts commits; tells whether index.faiss is current
);
INSERT INTO progress VALUES (0, 0);
"""
_COLUMNS = (
    "id, path, size, mtime_ns, content_hash, width, height, taken_at, camera, lat, lon, row, state, error"
)
_NEW_COLUMNS = ", ".join(f"excluded.{column}" for column in _COLUMNS.split(", "))


class Catalog:
    """Open one with `create` or `open`; close it or use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self._db = connection
        self._path = path
        self._file = os.stat(path)
        self.captions = Captions(connection, self._select)
        add_functions(connection)

    @classmethod
    def create(cls, collection: Path) -> Catalog:
        path = collection / FILE_NAME
        catalog = cls(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None), path)
        try:
            catalog._db.executescript(f"PRAGMA foreign_keys = ON; {_SCHEMA}")
            create_tables(catalog._db)
        except BaseException:
            catalog.close()
            raise
        return catalog

    @classmethod
    def open(cls, collection: Path, *, writable: bool = False) -> Catalog:
        """One of an older schema is brought up to date if it is opened for writing.

        Raises CollectionError if the catalogue is missing or not a catalogue.
        """
        path = collection / FILE_NAME
        try:
            if not writable and path.with_name(path.name + "-journal").exists():
                # Left by a writer killed in mid-commit; only a writer may roll it back.
                _connect(path, "rw").close()
            catalog = cls(_connect(path, "rw" if writable else "ro"), path)
        except sqlite3.Error as error:
            raise _damaged(path, error) from error
        try:
            catalog._know_captions(writable)
        except sqlite3.Error as error:
            catalog.close()
            raise _damaged(path, error) from error
        return catalog

    def _know_captions(self, writable: bool) -> None:
        if has_tables(self._db):
            return
        if not writable:
            stand_in(self._db)
            return
        with self._transaction():
            create_tables(self._db)

    def close(self) -> None:
        self._db.close()

    def was_replaced(self) -> bool:
        """Whether its place is another file's by now; this one goes on reading what it had."""
        try:
            return not os.path.samestat(self._file, os.stat(self._path))
        except OSError:  # as in the middle of a swap
            return False

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # reading

    @property
    def vector_rows(self) -> int:
        return self._scalar("SELECT vector_rows FROM progress")

    @property
    def generation(self) -> int:
        return self._scalar("SELECT generation FROM progress")

    @property
    def rewrites(self) -> int:
        """How often the vectors were rewritten and their rows renumbered; names their folder."""
        return self._scalar("PRAGMA user_version")

    def count(self, state: str) -> int:
        # By row, which is NULL for what failed and has an index: states alone mean reading it all.
        which = {"indexed": "row IS NOT NULL", "failed": "row IS NULL"}[state]
        return self._scalar(f"SELECT count(*) FROM documents WHERE {which}")

    def live_rows(self) -> np.ndarray:
        """Vector rows that belong to a document, ascending: int64 (n,)."""
        found = self._select("SELECT row FROM documents WHERE row IS NOT NULL ORDER BY row")
        return np.fromiter((row for (row,) in found), np.int64)

    def live_below(self, n: int) -> int:
        """How many of the vector rows 0..n-1 belong to a document."""
        return self._scalar("SELECT count(*) FROM documents WHERE row < ?", n)

    def documents_of_rows(self, rows: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Vector row -> (id, path), for the rows that belong to a document."""
        sql = "SELECT row, id, path FROM documents WHERE row IN ({marks})"
        return {row: (id, path) for row, id, path in for_each_row(self._select, sql, rows)}

    def rows_where(self, where: Condition) -> np.ndarray:
        """Vector rows of the documents of which it is true: int64 (m,)."""
        found = self._select(
            f"SELECT row FROM documents WHERE row IS NOT NULL AND {where.sql}", *where.values
        )
        return np.fromiter((row for (row,) in found), np.int64, len(found))

    def rows_of_ids(self, ids: Iterable[str]) -> dict[str, int | None]:
        """Id -> vector row of those documents that there are; None of one that could not be read."""
        return {
            id: row for one in dict.fromkeys(ids)
            for id, row in self._select("SELECT id, row FROM documents WHERE id = ?", one)
        }

    def id_ending_in(self, name: str) -> str | None:
        """Some embedded document's id with this end, whatever the case; None if there is none."""
        like = "%" + "".join("\\" + one if one in "\\%_" else one for one in name)
        found = self._select("SELECT id FROM documents WHERE id LIKE ? ESCAPE '\\' AND row IS NOT NULL LIMIT 1", like)
        return found[0][0] if found else None

    def contents_of_rows(self, rows: Iterable[int]) -> dict[int, tuple[str, str, str | None]]:
        """Vector row -> (id, path, content hash, None of imported ones), for the rows that belong to a document."""
        sql = "SELECT row, id, path, content_hash FROM documents WHERE row IN ({marks})"
        return {row: tuple(one) for row, *one in for_each_row(self._select, sql, rows)}

    def files_of_rows(self, rows: Iterable[int]) -> dict[int, ImageFile]:
        """Vector row -> its file, for the rows that belong to a document."""
        sql = "SELECT row, id, path, size, width, height FROM documents WHERE row IN ({marks})"
        return {row: ImageFile(*one) for row, *one in for_each_row(self._select, sql, rows)}

    def contents(self) -> list[tuple[int, str | None]]:
        """(vector row, content hash, None of imported ones) of every embedded document, by row."""
        return self._select("SELECT row, content_hash FROM documents WHERE row IS NOT NULL ORDER BY row")

    def indexed(self) -> list[tuple[str, int]]:
        """(id, vector row) of every embedded document, by row."""
        return self._select("SELECT id, row FROM documents WHERE state = 'indexed' ORDER BY row")

    def find(self, name: str) -> tuple[str, str, int | None, str | None] | None:
        """(id, path, vector row, error) of the document with this id, or else this path."""
        found = self._select("SELECT id, path, row, error FROM documents WHERE id = ?"
                             " UNION ALL SELECT id, path, row, error FROM documents WHERE path = ?", name, name)
        return found[0] if found else None

    def described(self, start: int, stop: int) -> list[tuple[int, Document]]:
        """(vector row, document) of every embedded document in rows start..stop - 1, by row."""
        names = ", ".join(field.name for field in fields(ImageFacts))
        sql = (f"SELECT row, path, size, mtime_ns, id, content_hash, {names} FROM documents"
               " WHERE row >= ? AND row < ? ORDER BY row")
        captions = self.captions.by_document_row(start, stop)
        return [
            (row, Document(FileState(path, size, mtime_ns), id, content_hash,
                           None if facts[0] is None else ImageFacts(*facts),
                           captions=captions.get(row, ())))
            for row, path, size, mtime_ns, id, content_hash, *facts
            in self._select(sql, start, stop)
        ]

    def failed(self) -> list[tuple[str, str]]:
        """(path, reason) of every file that could not be read, by path."""
        return self._select("SELECT path, error FROM documents WHERE state = 'failed' ORDER BY path")

    def known_files(self) -> dict[str, FileState]:
        """Every document's file by path, failed ones included."""
        found = self._select("SELECT path, size, mtime_ns FROM documents")
        return {path: FileState(path, size, mtime_ns) for path, size, mtime_ns in found}

    def ids_by_path(self) -> dict[str, str]:
        return dict(self._select("SELECT path, id FROM documents"))

    def holders(self, sizes: Iterable[int]) -> Iterator[Holder]:
        """Documents with a content hash whose files have one of these sizes, by row."""
        found = self._select(
            "SELECT path, content_hash, row, error, width, height, taken_at, camera, lat, lon"
            " FROM documents WHERE content_hash IS NOT NULL"
            " AND size IN (SELECT value FROM json_each(?)) ORDER BY row",
            json.dumps(list(sizes)),
        )
        for path, content_hash, row, error, *facts in found:
            known = ImageFacts(*facts) if facts[0] is not None else None
            yield Holder(path, content_hash, row, known, error)

    # writing

    def commit(
        self,
        documents: Sequence[Document],
        rows: Sequence[int],
        takeovers: Sequence[Takeover] = (),
    ) -> None:
        """Add, replace and take over documents in one transaction.

        rows  vector rows of the documents without an error, in their order; they become
              committed together with the documents
        """
        with self._transaction():
            for one in takeovers:
                if one.old_path != one.file.path:
                    self._db.execute("DELETE FROM documents WHERE path = ?", (one.file.path,))
                self._db.execute(
                    "UPDATE documents SET id = ?, path = ?, size = ?, mtime_ns = ? WHERE path = ?",
                    (one.id, *astuple(one.file), one.old_path),
                )
                if one.captions is not None:
                    self.captions.replace(one.file.path, one.captions)
            remaining = iter(rows)
            for document in documents:
                row = None if document.error else next(remaining)
                facts = astuple(document.facts) if document.facts else (None,) * 6
                self._db.execute(
                    f"INSERT INTO documents ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    f" ON CONFLICT (path) DO UPDATE SET ({_COLUMNS}) = ({_NEW_COLUMNS})",
                    (document.id, *astuple(document.file), document.content_hash, *facts,
                     row, "failed" if document.error else "indexed", document.error),
                )
                if document.captions is not None:
                    self.captions.replace(document.file.path, document.captions)
            self._count_rows(rows)

    def commit_texts(self, texts: Sequence[str], rows: Sequence[int]) -> None:
        """Vector rows of texts of captions; they become committed together."""
        with self._transaction():
            self.captions.add_vectors(texts, rows)
            self._count_rows(rows)

    def _count_rows(self, rows: Sequence[int]) -> None:
        if len(rows):
            self._db.execute("UPDATE progress SET vector_rows = ?", (max(rows) + 1,))

    def forget_texts(self) -> None:
        """Drop the vectors of all captions, not the captions. Their rows stay behind, unused."""
        with self._transaction():
            self.captions.drop_vectors(unused_only=False)

    def forget(self, paths: Iterable[str]) -> None:
        """Drop documents whose files are gone. Their vector rows stay behind, unused."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM documents WHERE path = ?", ((path,) for path in paths)
            )
            self.captions.drop_vectors(unused_only=True)

    def renumber(self, live: Sequence[int]) -> None:
        """Rows live[0], live[1], ... become 0, 1, ... of vectors that were rewritten so.

        live  those of documents and of captions, ascending
        """
        with self._transaction():
            self.captions.drop_vectors(unused_only=True)
            # Ascending, so that every number is free by the time it is given.
            changes = [(new, int(old)) for new, old in enumerate(live) if new != old]
            for table in ("documents", "texts"):
                self._db.executemany(f"UPDATE {table} SET row = ? WHERE row = ?", changes)
            self._db.execute("UPDATE progress SET vector_rows = ?", (len(live),))
            self._db.execute(f"PRAGMA user_version = {self.rewrites + 1}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("UPDATE progress SET generation = generation + 1")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # not when interrupted just behind the commit
                self._db.execute("ROLLBACK")
            raise

    def _scalar(self, sql: str, *values: object) -> int:
        return self._select(sql, *values)[0][0]

    def _select(self, sql: str, *values: object) -> list[tuple]:
        try:
            return self._db.execute(sql, values).fetchall()
        except UnicodeEncodeError:  # bytes of an argument that are not UTF-8: nothing here has such a name
            return []
        except sqlite3.DatabaseError as error:
            raise _damaged(self._path, error) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=LOCK_SECONDS,
        isolation_level=None, check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("SELECT vector_rows FROM progress")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _damaged(path: Path, error: sqlite3.Error) -> CollectionError:
    return CollectionError(
        f"{path} cannot be read ({error}). If it is missing or damaged, rebuild the collection: "
        f"retrieval index --rebuild SOURCE -o {path.parent}"
    )
