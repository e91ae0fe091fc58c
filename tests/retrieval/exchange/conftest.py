"""Embeddings as other programs leave them: real files in their layouts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from retrieval.exchange.importing import import_embeddings
from retrieval.images import open_image


@pytest.fixture
def path(tmp_path):
    return tmp_path / "imported.collection"


@pytest.fixture
def bring_in(path, loaded_once, tiny_encoder):
    """bring_in(embeddings) imports to `path`, with the tiny model unless told otherwise."""

    def bring_in(embeddings, model=tiny_encoder.name, **options):
        return import_embeddings(embeddings, path, model, device="cpu", precision="float32", **options)

    return bring_in


@pytest.fixture
def photos(photo_folder):
    """Absolute paths of six real photos."""
    return sorted(str(path) for path in photo_folder.rglob("*") if path.is_file())


@pytest.fixture
def photo_vectors(photos, tiny_encoder):
    return tiny_encoder.encode_images([open_image(Path(path))[0] for path in photos])


@pytest.fixture
def random_vectors():
    """random_vectors(n) are n different unit vectors."""

    def random_vectors(n, dim=32, seed=0):
        vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return random_vectors


@pytest.fixture
def write_part(tmp_path):
    """write_part(number, vectors, columns) adds a pair of files to the folder that it returns."""
    folder = tmp_path / "embeddings"

    def write_part(number, vectors, columns):
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
        return folder

    return write_part


# As rclip makes it: version 1 (rclip 1.0), then what its migrations to 2, 3 and 4 (rclip 3.3) add.
_FIRST = """
    CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL UNIQUE,
                         modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL);
    CREATE UNIQUE INDEX existing_images ON images(filepath) WHERE deleted IS NULL;
    CREATE TABLE db_version (version INTEGER);
"""
_MIGRATIONS = {2: "ALTER TABLE images ADD COLUMN indexing BOOLEAN;", 4: "ALTER TABLE images ADD COLUMN hash TEXT;"}


@pytest.fixture
def write_rclip(tmp_path):
    """write_rclip(version, rows) makes a database of (filepath, modified_at, size, vector, deleted)."""
    path = tmp_path / "db.sqlite3"

    def write_rclip(version, rows):
        database = sqlite3.connect(path)
        database.executescript(_FIRST)
        for step, sql in _MIGRATIONS.items():
            if step <= version:
                database.executescript(sql)
        database.execute("INSERT INTO db_version VALUES (?)", (version,))
        database.executemany(
            "INSERT INTO images (filepath, modified_at, size, vector, deleted) VALUES (?, ?, ?, ?, ?)", rows
        )
        database.commit()
        database.close()
        return path

    return write_rclip
