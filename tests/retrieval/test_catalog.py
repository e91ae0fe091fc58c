import gc
import sqlite3
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.catalog_file import FILE_NAME, transaction
from retrieval.documents import Document, FileState, ImageFile
from retrieval.errors import CollectionError
from retrieval.images import ImageFacts

FACTS = ImageFacts(640, 480, "2019-07-14T21:05:09", "Canon EOS 5D", 48.8583, -2.2945)


def document(name, *, size=1, error=None, facts=None):
    return Document(FileState(f"/photos/{name}", size, 1_000_000_007), name, f"hash of {name}", facts, error)


@pytest.fixture
def folder(tmp_path):
    Catalog.create(tmp_path).close()
    return tmp_path


@pytest.fixture
def catalog(folder):
    with Catalog.open(folder, writable=True) as catalog:
        yield catalog


def written(folder, sql):
    """What an independent connection sees."""
    connection = sqlite3.connect(folder / FILE_NAME)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("open", [Catalog.open, lambda folder: Catalog.create(folder / "new")])
def test_what_nobody_closes_is_closed_with_its_last_reference(folder, open):
    (folder / "new").mkdir()
    catalog = open(folder)
    connection = catalog._db
    assert connection.execute("SELECT vector_rows FROM progress").fetchall() == [(0,)]
    del catalog
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT vector_rows FROM progress")


class TestCommit:
    def test_a_new_catalogue_is_empty(self, catalog):
        assert (catalog.vector_rows, catalog.generation) == (0, 0)
        assert (catalog.count("indexed"), catalog.count("failed")) == (0, 0)
        assert catalog.live_rows().tolist() == []
        assert catalog.live_rows().dtype == np.int64
        assert (catalog.indexed(), catalog.failed(), catalog.known_files()) == ([], [], {})

    def test_every_column_is_written(self, folder, catalog):
        catalog.commit([document("a.jpg", size=12, facts=FACTS)], range(1))
        assert written(
            folder,
            "SELECT id, path, size, mtime_ns, content_hash, width, height, taken_at, camera,"
            " lat, lon, row, state, error FROM documents",
        ) == [(
            "a.jpg", "/photos/a.jpg", 12, 1_000_000_007, "hash of a.jpg", 640, 480,
            "2019-07-14T21:05:09", "Canon EOS 5D", 48.8583, -2.2945, 0, "indexed", None,
        )]

    def test_failed_documents_take_no_row(self, catalog):
        catalog.commit(
            [document("a.jpg"), document("b.jpg", error="the file is empty"), document("c.jpg")],
            range(2),
        )
        assert catalog.indexed() == [("a.jpg", 0), ("c.jpg", 1)]
        assert catalog.failed() == [("/photos/b.jpg", "the file is empty")]
        assert (catalog.count("indexed"), catalog.count("failed"), catalog.vector_rows) == (2, 1, 2)
        assert catalog.known_files()["/photos/b.jpg"] == FileState("/photos/b.jpg", 1, 1_000_000_007)
        assert catalog.ids_by_path() == {f"/photos/{one}.jpg": f"{one}.jpg" for one in "abc"}

    def test_files_and_contents_of_rows(self, catalog):
        catalog.commit(
            [document("a.jpg", size=7, facts=FACTS), document("b.jpg", error="damaged"), document("c.jpg")], range(2)
        )
        assert catalog.contents() == [(0, "hash of a.jpg"), (1, "hash of c.jpg")]
        assert catalog.contents_of_rows([1, 5]) == {1: ("c.jpg", "/photos/c.jpg", "hash of c.jpg")}
        assert catalog.files_of_rows([0, 1]) == {
            0: ImageFile("a.jpg", "/photos/a.jpg", 7, 640, 480),
            1: ImageFile("c.jpg", "/photos/c.jpg", 1, None, None),
        }

    def test_a_batch_of_failures_alone(self, catalog):
        catalog.commit([document("a.jpg")], range(1))
        catalog.commit([document("b.jpg", error="damaged")], ())
        assert (catalog.vector_rows, catalog.generation) == (1, 2)

    def test_replacing_moves_a_document_to_its_new_row(self, catalog):
        catalog.commit([document("a.jpg"), document("b.jpg")], range(2))
        catalog.commit([document("a.jpg", size=9)], range(2, 3))
        assert catalog.indexed() == [("b.jpg", 1), ("a.jpg", 2)]
        assert catalog.live_rows().tolist() == [1, 2]
        assert [catalog.live_below(n) for n in range(5)] == [0, 0, 1, 2, 2]
        assert catalog.known_files()["/photos/a.jpg"].size == 9
        assert catalog.vector_rows == 3

    def test_a_failure_replaces_what_was_indexed_and_back(self, catalog):
        catalog.commit([document("a.jpg")], range(1))
        catalog.commit([document("a.jpg", error="damaged")], ())
        assert (catalog.indexed(), catalog.failed()) == ([], [("/photos/a.jpg", "damaged")])
        catalog.commit([document("a.jpg")], range(1, 2))
        assert (catalog.indexed(), catalog.failed()) == ([("a.jpg", 1)], [])

    def test_the_generation_counts_commits(self, catalog):
        catalog.commit([document("a.jpg")], range(1))
        catalog.commit([document("b.jpg")], range(1, 2))
        catalog.forget(["/photos/a.jpg"])
        assert catalog.generation == 3

    def test_forgetting_keeps_the_committed_rows(self, catalog):
        catalog.commit([document(f"{one}.jpg") for one in "abc"], range(3))
        catalog.forget(["/photos/a.jpg", "/photos/c.jpg", "/photos/never.jpg"])
        assert catalog.indexed() == [("b.jpg", 1)]
        assert catalog.vector_rows == 3


class TestCaptions:
    def said(self, name, *captions, **more):
        return replace(document(name, **more), captions=captions)

    def test_go_with_their_document(self, folder, catalog):
        catalog.commit([self.said("a.jpg", "one", "two"), self.said("b.jpg", "one")], range(2))
        catalog.commit_texts(["one", "two"], range(2, 4))
        assert (catalog.vector_rows, catalog.generation, catalog.captions.counts()) == (4, 2, (3, 3))
        assert catalog.captions.of_rows([2, 3, 9]) == {
            2: [("a.jpg", "/photos/a.jpg", "one"), ("b.jpg", "/photos/b.jpg", "one")],
            3: [("a.jpg", "/photos/a.jpg", "two")],
        }
        catalog.forget(["/photos/a.jpg"])
        assert catalog.captions.live_rows().tolist() == [2]
        assert written(folder, "SELECT text, row FROM texts") == [("one", 2)]
        assert catalog.captions.by_path() == {"/photos/b.jpg": ("one",)}

    def test_new_content_brings_its_own(self, catalog):
        catalog.commit([self.said("a.jpg", "one", "two")], range(1))
        catalog.commit([self.said("a.jpg", "three", size=9)], range(1, 2))
        assert catalog.captions.by_path() == {"/photos/a.jpg": ("three",)}
        assert catalog.captions.without_vectors() == ["three"]

    def test_renumbering(self, catalog):
        catalog.commit([self.said("a.jpg", "one"), self.said("b.jpg", "two", "three")], range(2))
        catalog.commit_texts(["one", "two", "three"], range(2, 5))
        catalog.forget(["/photos/a.jpg"])
        catalog.renumber([1, 3, 4])
        assert (catalog.indexed(), catalog.vector_rows) == ([("b.jpg", 0)], 3)
        assert {row: one[0][2] for row, one in catalog.captions.of_rows(range(9)).items()} == {1: "two", 2: "three"}


class TestRows:
    def test_documents_of_more_rows_than_one_statement_takes(self, catalog):
        catalog.commit([document(f"{number}.jpg") for number in range(1203)], range(1203))
        catalog.forget(["/photos/700.jpg"])
        found = catalog.documents_of_rows(np.array([*range(1202, 100, -1), 150, 9999]))
        assert found == {
            row: (f"{row}.jpg", f"/photos/{row}.jpg") for row in range(101, 1203) if row != 700
        }

    def test_no_rows(self, catalog):
        assert catalog.documents_of_rows([]) == {}


class TestRollback:
    def state(self, catalog):
        return catalog.indexed(), catalog.known_files(), catalog.vector_rows, catalog.generation

    def test_a_clash_of_ids_midway_leaves_the_old_state(self, folder, catalog):
        catalog.commit([document("a.jpg"), document("b.jpg")], range(2))
        before = self.state(catalog)
        clash = Document(FileState("/elsewhere/b.jpg", 1, 1), "b.jpg")
        with pytest.raises(sqlite3.IntegrityError):
            catalog.commit([document("a.jpg", size=9), document("new.jpg"), clash], range(2, 5))
        assert self.state(catalog) == before
        with Catalog.open(folder) as other:
            assert self.state(other) == before
        catalog.commit([document("new.jpg")], range(2, 3))
        assert catalog.indexed() == [("a.jpg", 0), ("b.jpg", 1), ("new.jpg", 2)]

    def test_fewer_rows_than_documents(self, catalog):
        with pytest.raises(StopIteration):
            catalog.commit([document("a.jpg"), document("b.jpg")], range(1))
        assert (catalog.indexed(), catalog.vector_rows, catalog.generation) == ([], 0, 0)

    def test_another_reader_sees_whole_commits_only(self, folder, catalog):
        catalog.commit([document("a.jpg")], range(1))
        with Catalog.open(folder) as reader, transaction(catalog._db):
            catalog._db.execute("DELETE FROM documents")
            assert reader.indexed() == [("a.jpg", 0)]

    @pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
    def test_a_writer_killed_in_mid_transaction_is_rolled_back(self, folder, catalog):
        """Pages have reached the file already: a hot journal, which a read-only connection refuses."""
        catalog.commit([document("a.jpg")], range(1))
        catalog.close()
        script = """if True:
            import os, signal, sys
            from pathlib import Path
            from retrieval.catalog import Catalog
            db = Catalog.open(Path(sys.argv[1]), writable=True)._db
            db.execute("PRAGMA cache_size = 2")
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE progress SET vector_rows = 999")
            for n in range(2000):
                db.execute("INSERT INTO documents (id, path, size, mtime_ns, row, state)"
                           " VALUES (?, ?, 1, 1, ?, 'indexed')", (f"{n}", f"/{n}" * 9, n + 9))
            os.kill(os.getpid(), signal.SIGKILL)
        """
        run = subprocess.run([sys.executable, "-c", script, str(folder)])
        journal = folder / (FILE_NAME + "-journal")
        assert run.returncode == -9 and journal.stat().st_size > 0
        with Catalog.open(folder) as reader:
            assert (reader.indexed(), reader.vector_rows) == ([("a.jpg", 0)], 1)
        assert not journal.exists()


class TestOpening:
    def test_read_only_cannot_write(self, folder, catalog):
        catalog.commit([document("a.jpg")], range(1))
        with Catalog.open(folder) as reader:
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.commit([document("b.jpg")], range(1, 2))
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.forget(["/photos/a.jpg"])
            assert reader.indexed() == [("a.jpg", 0)]

    @pytest.mark.parametrize("writable", [False, True])
    @pytest.mark.parametrize("content", [None, b"", b"not a database at all" * 100])
    def test_missing_empty_and_foreign_files(self, tmp_path, content, writable):
        path = tmp_path / FILE_NAME
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CollectionError) as caught:
            Catalog.open(tmp_path, writable=writable)
        assert str(caught.value).startswith(f"{path} cannot be read (")
        assert f"retrieval index --rebuild SOURCE -o {tmp_path}" in str(caught.value)
        assert path.exists() == (content is not None)

    @pytest.mark.parametrize(
        "read",
        [
            Catalog.indexed, Catalog.live_rows, Catalog.known_files, Catalog.ids_by_path,
            lambda catalog: catalog.documents_of_rows(range(1203)),
        ],
        ids=["indexed", "live_rows", "known_files", "ids_by_path", "documents_of_rows"],
    )
    def test_damage_behind_the_first_pages(self, folder, catalog, read):
        catalog.commit([document(f"{number}.jpg") for number in range(1203)], range(1203))
        catalog.close()
        path = folder / FILE_NAME
        content = bytearray(path.read_bytes())
        content[8 * 4096 :] = b"\xff" * (len(content) - 8 * 4096)
        path.write_bytes(content)
        with Catalog.open(folder) as damaged, pytest.raises(CollectionError, match="malformed"):
            read(damaged)

    def test_a_folder_with_an_odd_name(self, tmp_path):
        folder = tmp_path / "100% of #1? photos & ünïcode"
        folder.mkdir()
        Catalog.create(folder).close()
        with Catalog.open(folder, writable=True) as catalog:
            catalog.commit([document("日本 %20.jpg")], range(1))
        with Catalog.open(folder) as catalog:
            assert catalog.indexed() == [("日本 %20.jpg", 0)]

    def test_a_closed_catalogue_is_closed(self, folder):
        with Catalog.open(folder) as catalog:
            pass
        with pytest.raises(CollectionError, match="closed"):
            catalog.indexed()
