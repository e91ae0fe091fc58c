"""`index_sources` where it must not write, and where it starts anew."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.errors import (
    CollectionError, CollectionNotFoundError, EncoderError, EncoderMismatchError, SchemaError,
)
from retrieval.maintain import Options, Watcher, index_sources
from retrieval.manifest import SCHEMA_VERSION, Manifest
from retrieval.writing import LOCK_FILE


pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def folder(tmp_path, photo_folder):
    """Two photos: enough for what is tested here."""
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("flower.jpg", "rocket.jpg"):
        shutil.copyfile(photo_folder / name, folder / name)
    return folder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "place" / "two.collection"


@pytest.fixture
def index(path, folder, tiny_encoder):
    def index(*, model=tiny_encoder.name, batch_size=64, **options):
        return index_sources([folder], path, Options(model, "cpu", "float32", batch_size), **options)

    return index


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def search(path, encoder):
    with Collection.open(path, encoder=encoder) as collection:
        return [hit.id for hit in collection.search("a rocket at night")]


class TestRefusals:
    def refused(self, error, index, path, **options):
        """The message; the folder is left as it was."""
        before = contents(path)
        with pytest.raises(error) as caught:
            index(**options)
        assert {name: content for name, content in contents(path).items() if name != LOCK_FILE} == {
            name: content for name, content in before.items() if name != LOCK_FILE
        }
        return str(caught.value)

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_a_folder_that_is_no_collection_is_never_written_to(self, index, path, rebuild):
        path.mkdir(parents=True)
        (path / "thesis.tex").write_text("years of work")
        assert "is a folder but not a collection" in self.refused(
            CollectionNotFoundError, index, path, rebuild=rebuild)
        assert os.listdir(path) == ["thesis.tex"]

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_nor_is_a_file(self, index, path, rebuild):
        path.parent.mkdir()
        path.write_text("years of work")
        with pytest.raises(CollectionNotFoundError):
            index(rebuild=rebuild)
        assert path.read_text() == "years of work"

    def test_nor_is_a_place_below_a_file(self, index, path):
        path.parent.write_text("a file")
        with pytest.raises(CollectionError, match=f"^{path.parent} cannot be written to"):
            index()

    def test_another_model_names_both_fingerprints(self, index, path, folder, tiny_encoder, other_model):
        index()
        os.utime(folder / "rocket.jpg", ns=(1, 1))
        message = self.refused(EncoderMismatchError, index, path, model=f"local-dir:{other_model}")
        assert tiny_encoder.name in message and str(other_model) in message
        assert tiny_encoder.fingerprint in message and message.count("fingerprint") == 2
        assert "--rebuild" in message

    def test_another_model_is_refused_though_nothing_is_new(self, index, path, other_model):
        index()
        self.refused(EncoderMismatchError, index, path, model=f"local-dir:{other_model}")

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_a_newer_schema_says_upgrade(self, index, path, rebuild):
        index()
        content = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**content, "schema_version": SCHEMA_VERSION + 1}))
        assert "upgrade" in self.refused(SchemaError, index, path, rebuild=rebuild)

    @pytest.mark.parametrize("name", ["manifest.json", "catalog.sqlite"])
    def test_damage_says_rebuild_and_a_rebuild_mends_it(self, index, path, tiny_encoder, name):
        index()
        (path / name).write_bytes(b"\0" * 3000)
        message = self.refused(CollectionError, index, path)
        assert name in message and f"retrieval index --rebuild SOURCE -o {path}" in message
        assert index(rebuild=True).images == 2
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]


class TestOneWriter:
    SENTENCE = "Another `retrieval index` is writing to {}. Wait for it to finish, then run this again."

    @pytest.fixture
    def held(self, index, path):
        """The collection, while another process holds its lock."""
        index()
        script = (
            "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
            " print('held', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", script, str(path / LOCK_FILE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        with holder:
            assert holder.stdout.readline() == "held\n"
            yield path
            holder.stdin.close()

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_a_second_writer_is_refused(self, held, index, tiny_encoder, rebuild):
        with pytest.raises(CollectionError) as caught:
            index(rebuild=rebuild)
        assert str(caught.value) == self.SENTENCE.format(held)
        assert os.listdir(held.parent) == [held.name]
        assert sorted(search(held, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]  # readers may

    def test_a_rebuild_keeps_others_out(self, index, path):
        index()
        told = []

        def second_run(count):
            with pytest.raises(CollectionError) as caught:
                index()
            told.append(str(caught.value))

        index(rebuild=True, watcher=Watcher(on_batch=second_run))
        assert told == [self.SENTENCE.format(path)]

    def test_the_lock_is_free_after_a_failure(self, index, path, other_model):
        index()
        with pytest.raises(EncoderMismatchError):
            index(model=f"local-dir:{other_model}")
        assert index().unchanged == 2

    def test_of_two_first_runs_the_slower_one_spoils_nothing(self, index, path, monkeypatch, tiny_encoder):
        """The other run makes its collection while this one still loads its encoder."""
        load = maintain.load_encoder

        def meanwhile(*args, **options):
            monkeypatch.setattr(maintain, "load_encoder", load)
            index()
            return load(*args, **options)

        monkeypatch.setattr(maintain, "load_encoder", meanwhile)
        with pytest.raises(CollectionError, match=f"^Another .* has just made {path}. Run this again"):
            index()
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]
        assert os.listdir(path.parent) == [path.name]
        assert index().unchanged == 2


class TestRebuild:
    def test_another_model_replaces(self, index, path, folder, tiny_encoder, other_model):
        index()
        report = index(model=f"local-dir:{other_model}", rebuild=True)
        assert (report.collection, report.images, report.encoded, report.unchanged) == (path, 2, 2, 0)
        manifest = Manifest.load(path)
        assert manifest.encoder.name == report.encoder == f"local-dir:{other_model}"
        assert manifest.encoder.fingerprint != tiny_encoder.fingerprint
        with Collection.open(path) as collection:
            assert [hit.rank for hit in collection.search(str(folder / "rocket.jpg"))] == [1, 2]
        assert os.listdir(path.parent) == [path.name]

    def test_documents_of_other_folders_go(self, index, path, folder, photo_folder, tiny_encoder):
        index()
        index_sources([photo_folder / "coffee.png"], path)
        assert len(search(path, tiny_encoder)) == 3
        index(rebuild=True)
        assert len(search(path, tiny_encoder)) == 2

    @pytest.mark.parametrize("batches", [0, 1])
    def test_a_failing_rebuild_keeps_the_old_one(self, index, path, tiny_encoder, batches):
        index()
        before = {name: content for name, content in contents(path).items() if name != LOCK_FILE}

        def fail(_):
            nonlocal batches
            batches -= 1
            if batches < 0:
                raise EncoderError("out of memory")

        with pytest.raises(EncoderError, match="out of memory"):
            index(rebuild=True, batch_size=1, watcher=Watcher(on_batch=fail))
        assert {name: content for name, content in contents(path).items() if name != LOCK_FILE} == before
        assert os.listdir(path.parent) == [path.name]
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]

    def test_a_rebuild_with_nothing_readable_keeps_the_old_one(self, index, path, folder, tiny_encoder):
        index()
        for file in folder.iterdir():
            file.write_text("no picture")
        with pytest.raises(maintain.CorpusError, match="None of the 2 image files"):
            index(rebuild=True)
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("suffix", [".old", ".new", ".rebuild"])
    def test_what_the_user_keeps_beside_it_stays(self, index, path, suffix):
        index()
        backup = shutil.copytree(path, path.with_name(path.name + suffix))
        before = contents(backup)
        index(rebuild=True)
        assert contents(backup) == before

    def test_without_a_collection_it_makes_one(self, index, path):
        assert index(rebuild=True).encoded == 2
        assert Manifest.load(path).counts == {"images": 2, "failed": 0}

    def test_vectors_are_made_anew(self, index, path, folder):
        index()
        shard = path / "vectors" / "00000.npy"
        good = np.load(shard)
        shard.write_bytes(b"")
        with pytest.raises(CollectionError, match="--rebuild"):
            os.utime(folder / "rocket.jpg", ns=(1, 1))
            index()
        index(rebuild=True)
        np.testing.assert_array_equal(np.load(shard), good)


class TestPlaces:
    def test_an_empty_folder_that_is_there_already(self, index, path, tiny_encoder):
        path.mkdir(parents=True)
        inode = path.stat().st_ino
        assert index().encoded == 2
        assert path.stat().st_ino == inode  # it may be a mount
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]

    def test_the_current_folder(self, index, path, folder, tiny_encoder, monkeypatch):
        path.mkdir(parents=True)
        monkeypatch.chdir(path)
        report = index_sources([folder], Path("."), Options(tiny_encoder.name, "cpu", "float32"))
        assert (report.collection, report.images) == (Path("."), 2)
        assert sorted(search(path, tiny_encoder)) == ["flower.jpg", "rocket.jpg"]
