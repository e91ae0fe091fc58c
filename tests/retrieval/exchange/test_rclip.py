import os
import sqlite3

import numpy as np
import pytest

from retrieval.errors import ExchangeError
from retrieval.exchange import rclip
from retrieval.exchange.entries import is_at_hand
from retrieval.exchange.rclip import RclipDatabase, is_database


@pytest.fixture
def rows(photos, photo_vectors):
    """What rclip stores of six photos."""
    return [
        (path, os.stat(path).st_mtime, os.stat(path).st_size, vector.tobytes(), None)
        for path, vector in zip(photos, photo_vectors)
    ]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version(write_rclip, rows, photos, photo_vectors, version, monkeypatch):
    monkeypatch.setattr(rclip, "BATCH_ROWS", 4)
    database = RclipDatabase(write_rclip(version, rows))
    assert (database.n, database.dim) == (6, 32)
    assert database.model == (
        "ViT-B-32-quickgelu/openai" if version < 3 else "ViT-B-32-256/datacomp_s34b_b86k"
    )
    first, second = database.batches()
    assert [entry.file.path for entry in first.entries + second.entries] == photos
    np.testing.assert_array_equal(np.concatenate([first.vectors, second.vectors]), photo_vectors)
    assert all(entry.file.mtime_ns == os.stat(entry.file.path).st_mtime_ns for entry in first.entries)


def test_a_database_of_a_first_run_has_no_version(write_rclip, rows):
    path = write_rclip(1, rows)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM db_version")
    database.close()
    assert RclipDatabase(path).model == "ViT-B-32-quickgelu/openai"


def test_deleted_changed_and_missing_files(write_rclip, rows, photos):
    rows[0] = (*rows[0][:4], 1)
    rows[1] = (rows[1][0], rows[1][1] - 1, *rows[1][2:])
    rows[2] = (*rows[2][:2], rows[2][2] + 1, *rows[2][3:])
    os.unlink(photos[3])
    database = RclipDatabase(write_rclip(4, rows))
    assert database.n == 5
    (batch,) = database.batches()
    assert [entry.file.path for entry in batch.entries] == photos[1:]
    assert [is_at_hand(entry.file) for entry in batch.entries] == [False, False, False, True, True]


def test_vectors_of_other_lengths_are_skipped_by_name(write_rclip, rows, photos, bring_in):
    rows[2] = (*rows[2][:3], rows[2][3][:-4], None)
    report = bring_in(write_rclip(4, rows))
    assert report.images == 5 and report.source == "rclip's database"
    assert [name for name, _ in report.skipped] == [photos[2]]
    assert "cut off" in report.skipped[0][1]


def test_the_database_is_left_alone(write_rclip, rows):
    path = write_rclip(4, rows)
    before = path.read_bytes(), os.stat(path).st_mtime_ns, sorted(os.listdir(path.parent))
    list(RclipDatabase(path).batches())
    assert before == (path.read_bytes(), os.stat(path).st_mtime_ns, sorted(os.listdir(path.parent)))


def test_other_databases(tmp_path, photo_folder):
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE images (id, path)")
    database.close()
    assert is_database(path) and not is_database(photo_folder / "coffee.png")
    with pytest.raises(ExchangeError, match="not a database of rclip"):
        RclipDatabase(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExchangeError, match="cannot be read as a database of rclip"):
        RclipDatabase(path)


def test_an_empty_database(write_rclip):
    with pytest.raises(ExchangeError, match="holds no images"):
        RclipDatabase(write_rclip(4, []))
