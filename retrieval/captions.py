"""Captions in the catalogue: what sources say of images, and which vector row a text has.

A vector belongs to a text, not to one of its captions. So a text that several images share is
embedded once, and whatever becomes of documents, a caption that stays keeps its vector. A text
that no image has any more is left out everywhere, until compacting removes it.
"""

from __future__ import annotations

import sqlite3
from typing import Callable, Iterable, Iterator, Sequence

import numpy as np

from retrieval.conditions import Condition

_SCHEMA = (
    """CREATE TABLE captions (
    document INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (document, position)
) WITHOUT ROWID""",
    "CREATE INDEX captions_by_text ON captions (text)",
    """CREATE TABLE texts (
    text TEXT NOT NULL PRIMARY KEY,
    row INTEGER NOT NULL UNIQUE  -- vector row
) WITHOUT ROWID""",
)
# Up to schema 2 captions were a JSON array in `documents`, and had no vectors.
_IN_JSON = "SELECT documents.key, each.key, each.value FROM documents, json_each(documents.captions) AS each"
_AS_IF = (
    f"CREATE TEMP VIEW captions (document, position, text) AS {_IN_JSON}",
    "CREATE TEMP VIEW texts (text, row) AS SELECT NULL, NULL WHERE 0",
)
_UPGRADE = (
    *_SCHEMA,
    f"INSERT INTO captions {_IN_JSON}",
    "UPDATE documents SET captions = NULL",
)
# Those of images that can be searched: what an image that cannot be read is said to show is kept only.
_OF_IMAGES = "captions JOIN documents ON documents.key = captions.document AND documents.row IS NOT NULL"
_EMBEDDED = f"{_OF_IMAGES} JOIN texts ON texts.text = captions.text"


def create_tables(db: sqlite3.Connection) -> None:
    """Of a new catalogue; also for one of schema 2 or older, within a transaction."""
    old = any(name == "captions" for _, name, *_ in db.execute("PRAGMA table_info(documents)"))
    for statement in _UPGRADE if old else _SCHEMA:
        db.execute(statement)


def has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'captions'").fetchall())


def stand_in(db: sqlite3.Connection) -> None:
    """Make a catalogue of schema 2 or older read like one with these tables, without writing to it."""
    for statement in _AS_IF:
        db.execute(statement)


class Captions:
    """The captions of one catalogue. select runs a query and returns its rows."""

    def __init__(self, db: sqlite3.Connection, select: Callable[..., list[tuple]]):
        self._db = db
        self._select = select

    # reading

    def counts(self) -> tuple[int, int]:
        """Captions of images, and how many of them have a vector."""
        return tuple(
            self._select(f"SELECT count(*) FROM {source}")[0][0] for source in (_OF_IMAGES, _EMBEDDED)
        )

    def live_rows(self) -> np.ndarray:
        """Vector rows of texts that are some image's caption, ascending: int64 (t,)."""
        found = self._select(f"SELECT DISTINCT texts.row FROM {_EMBEDDED} ORDER BY texts.row")
        return np.fromiter((row for (row,) in found), np.int64)

    def rows_where(self, where: Condition) -> np.ndarray:
        """Vector rows of texts that are the caption of some image of which it is true: int64 (t,)."""
        found = self._select(f"SELECT DISTINCT texts.row FROM {_EMBEDDED} WHERE {where.sql}", *where.values)
        return np.fromiter((row for (row,) in found), np.int64, len(found))

    def of_rows(
        self, rows: Iterable[int], where: Condition | None = None
    ) -> dict[int, list[tuple[str, str, str]]]:
        """Vector row -> (id, path, caption) of each image with that caption, of which `where` is true."""
        found: dict[int, list[tuple[str, str, str]]] = {}
        only, values = (f" AND {where.sql}", where.values) if where else ("", ())
        sql = ("SELECT texts.row, id, path, texts.text FROM texts"
               " JOIN captions ON captions.text = texts.text"
               " JOIN documents ON documents.key = captions.document AND documents.row IS NOT NULL"
               " WHERE texts.row IN ({marks})" + only + " ORDER BY documents.key, captions.position")
        for row, *one in for_each_row(self._select, sql, rows, values):
            found.setdefault(row, []).append(tuple(one))
        return found

    def by_id(self) -> list[tuple[str, str]]:
        """(id of its image, caption) of all of them, image by image in the order of `Catalog.indexed`."""
        return self._select(f"SELECT id, text FROM {_OF_IMAGES} ORDER BY documents.row, position")

    def by_path(self) -> dict[str, tuple[str, ...]]:
        """Of the documents that have any, those that could not be read included."""
        return _grouped(self._select(
            "SELECT path, text FROM captions JOIN documents ON documents.key = captions.document"
            " ORDER BY document, position"
        ))

    def of_path(self, path: str) -> tuple[str, ...]:
        """Those of the document there."""
        return tuple(text for (text,) in self._select(
            "SELECT text FROM captions JOIN documents ON documents.key = captions.document WHERE path = ?"
            " ORDER BY position", path
        ))

    def by_document_row(self, start: int, stop: int) -> dict[int, tuple[str, ...]]:
        """Vector row of the image -> its captions, for those in rows start..stop - 1."""
        return _grouped(self._select(
            f"SELECT documents.row, text FROM {_OF_IMAGES}"
            " WHERE documents.row >= ? AND documents.row < ? ORDER BY documents.row, position", start, stop
        ))

    def rows_by_document_row(self, start: int, stop: int) -> np.ndarray:
        """(vector row of the image, that of a caption of it) of images in rows start..stop - 1: int64 (c, 2)."""
        found = self._select(
            f"SELECT documents.row, texts.row FROM {_EMBEDDED}"
            " WHERE documents.row >= ? AND documents.row < ? ORDER BY documents.row, position", start, stop
        )
        return np.array(found, np.int64).reshape(-1, 2)

    def first_rows(self) -> dict[int, int]:
        """Vector row of the image -> that of its first caption, where this is embedded."""
        return dict(self._select(f"SELECT documents.row, texts.row FROM {_EMBEDDED} WHERE position = 0"))

    def without_vectors(self) -> list[str]:
        """Distinct texts that are still to be embedded, image by image."""
        found = self._select(
            f"SELECT text FROM {_OF_IMAGES} WHERE text NOT IN (SELECT text FROM texts)"
            " ORDER BY document, position"
        )
        return list(dict.fromkeys(text for (text,) in found))

    # writing, each within a transaction of the catalogue

    def replace(self, path: str, captions: Sequence[str]) -> None:
        """Of the document at `path`."""
        ((key,),) = self._db.execute("SELECT key FROM documents WHERE path = ?", (path,))
        self._db.execute("DELETE FROM captions WHERE document = ?", (key,))
        self._db.executemany(
            "INSERT INTO captions VALUES (?, ?, ?)",
            ((key, position, text) for position, text in enumerate(captions)),
        )

    def add_vectors(self, texts: Sequence[str], rows: Sequence[int]) -> None:
        self._db.executemany("INSERT INTO texts VALUES (?, ?)", zip(texts, rows, strict=True))

    def drop_vectors(self, *, unused_only: bool) -> None:
        """Their rows stay behind, dead."""
        unused = f" WHERE text NOT IN (SELECT text FROM {_OF_IMAGES})" if unused_only else ""
        self._db.execute(f"DELETE FROM texts{unused}")


def for_each_row(
    select: Callable[..., list[tuple]], sql: str, rows: Iterable[int], values: Sequence[object] = ()
) -> Iterator[tuple]:
    """Run `sql` for these vector rows, which stand where it says {marks}; values stand behind them."""
    wanted = list({int(row) for row in rows})
    for start in range(0, len(wanted), 500):  # below SQLite's limit of bound variables
        part = wanted[start : start + 500]
        yield from select(sql.format(marks=",".join("?" * len(part))), *part, *values)


def _grouped(pairs: Iterable[tuple]) -> dict:
    groups: dict = {}
    for name, text in pairs:
        groups.setdefault(name, []).append(text)
    return {name: tuple(texts) for name, texts in groups.items()}
