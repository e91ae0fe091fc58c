"""The catalogue: one SQLite row per image, its captions, and how many vector rows are committed.

A batch's documents and the count of vector rows they own are written in one transaction, so
after a kill the catalogue and the vectors agree on the last committed batch.
"""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from dataclasses import astuple, fields
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import numpy as np

from retrieval.captions import Captions, for_each_row
from retrieval.catalog_file import FILE_NAME, create_file, damaged, open_file, transaction
from retrieval.conditions import Condition, add_functions
from retrieval.documents import Document, FileState, Holder, ImageFile, Takeover
from retrieval.images import ImageFacts

_COLUMNS = (
    "id, path, size, mtime_ns, content_hash, width, height, taken_at, camera, lat, lon, row, state, error"
)
_NEW_COLUMNS = ", ".join(f"excluded.{column}" for column in _COLUMNS.split(", "))


class Catalog:
    """Open one with `create` or `open`; close it or use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self._db = connection
        weakref.finalize(self, connection.close)  # where nobody closes it, as in a line of a notebook
        self._path = path
        self._file = os.stat(path)
        self.captions = Captions(connection, self._select)
        add_functions(connection)

    @classmethod
    def create(cls, collection: Path) -> Catalog:
        path = collection / FILE_NAME
        return cls(create_file(path), path)

    @classmethod
    def open(cls, collection: Path, *, writable: bool = False) -> Catalog:
        """One of an older schema is brought up to date if it is opened for writing.

        Raises CollectionError if the catalogue is missing or not a catalogue.
        """
        path = collection / FILE_NAME
        return cls(open_file(path, writable=writable), path)

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
        with transaction(self._db):
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
        with transaction(self._db):
            self.captions.add_vectors(texts, rows)
            self._count_rows(rows)

    def _count_rows(self, rows: Sequence[int]) -> None:
        if len(rows):
            self._db.execute("UPDATE progress SET vector_rows = ?", (max(rows) + 1,))

    def forget_texts(self) -> None:
        """Drop the vectors of all captions, not the captions. Their rows stay behind, unused."""
        with transaction(self._db):
            self.captions.drop_vectors(unused_only=False)

    def forget(self, paths: Iterable[str]) -> None:
        """Drop documents whose files are gone. Their vector rows stay behind, unused."""
        with transaction(self._db):
            self._db.executemany(
                "DELETE FROM documents WHERE path = ?", ((path,) for path in paths)
            )
            self.captions.drop_vectors(unused_only=True)

    def renumber(self, live: Sequence[int]) -> None:
        """Rows live[0], live[1], ... become 0, 1, ... of vectors that were rewritten so.

        live  those of documents and of captions, ascending
        """
        with transaction(self._db):
            self.captions.drop_vectors(unused_only=True)
            # Ascending, so that every number is free by the time it is given.
            changes = [(new, int(old)) for new, old in enumerate(live) if new != old]
            for table in ("documents", "texts"):
                self._db.executemany(f"UPDATE {table} SET row = ? WHERE row = ?", changes)
            self._db.execute("UPDATE progress SET vector_rows = ?", (len(live),))
            self._db.execute(f"PRAGMA user_version = {self.rewrites + 1}")

    def _scalar(self, sql: str, *values: object) -> int:
        return self._select(sql, *values)[0][0]

    def _select(self, sql: str, *values: object) -> list[tuple]:
        try:
            return self._db.execute(sql, values).fetchall()
        except UnicodeEncodeError:  # bytes of an argument that are not UTF-8: nothing here has such a name
            return []
        except sqlite3.DatabaseError as error:
            raise damaged(self._path, error) from error
