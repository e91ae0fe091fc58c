"""The catalogue's file: its tables, how it is opened, after a kill too, and how changes are committed."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from retrieval.captions import create_tables, has_tables, stand_in
from retrieval.errors import CollectionError

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


def create_file(path: Path) -> sqlite3.Connection:
    """A new one, empty."""
    db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.executescript(f"PRAGMA foreign_keys = ON; {_SCHEMA}")
        create_tables(db)
    except BaseException:
        db.close()
        raise
    return db


def open_file(path: Path, *, writable: bool) -> sqlite3.Connection:
    """One of an older schema is brought up to date if it is opened for writing.

    Raises CollectionError if it is missing or no catalogue.
    """
    try:
        if not writable and path.with_name(path.name + "-journal").exists():
            # Left by a writer killed in mid-commit; only a writer may roll it back.
            _connected(path, "rw").close()
        db = _connected(path, "rw" if writable else "ro")
    except sqlite3.Error as error:
        raise damaged(path, error) from error
    try:
        if not has_tables(db):
            _add_captions(db, writable)
    except sqlite3.Error as error:
        db.close()
        raise damaged(path, error) from error
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what is written within, or nothing; one commit."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("UPDATE progress SET generation = generation + 1")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # not when interrupted just behind the commit
            db.execute("ROLLBACK")
        raise


def damaged(path: Path, error: sqlite3.Error) -> CollectionError:
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):  # by us
        return CollectionError(f"{path.parent} is closed; open it anew.")
    return CollectionError(
        f"{path} cannot be read ({error}). If it is missing or damaged, rebuild the collection: "
        f"retrieval index --rebuild SOURCE -o {path.parent}"
    )


def _add_captions(db: sqlite3.Connection, writable: bool) -> None:
    if not writable:
        stand_in(db)
        return
    with transaction(db):
        create_tables(db)


def _connected(path: Path, mode: str) -> sqlite3.Connection:
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
