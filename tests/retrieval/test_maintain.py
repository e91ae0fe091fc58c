import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.errors import CorpusError, UnknownModelError
from retrieval.images import open_image
from retrieval.maintain import Options, Watcher, index_sources
from retrieval.manifest import Manifest


pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.collection"


@pytest.fixture
def index(path, tiny_encoder):
    """index(folder, ...) makes or updates the collection at `path` with the tiny model."""

    def index(*folders, model=tiny_encoder.name, batch_size=64, **options):
        return index_sources(folders, path, Options(model, "cpu", "float32", batch_size), **options)

    return index


@pytest.fixture
def no_encoder(monkeypatch):
    """From here on, loading any encoder fails the test."""
    def forbid():
        def load(*_, **__):
            raise AssertionError("an encoder was loaded")

        monkeypatch.setattr(maintain, "load_encoder", load)
        monkeypatch.setattr(maintain, "load_recorded_encoder", load)

    return forbid


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def vectors(path):
    """id -> (path, vector) of the collection."""
    with Collection.open(path) as collection:
        found = collection.catalog.indexed()
        taken = collection.vectors.take(np.array([row for _, row in found], np.int64))
        where = {id: file for file, id in collection.catalog.ids_by_path().items()}
        return {id: (where[id], vector) for (id, _), vector in zip(found, taken)}


def assert_holds(path, ids, encoder):
    """Exactly these documents, each with the encoder's vector of its file, and searched as such."""
    found = vectors(path)
    assert found.keys() == set(ids)
    own = {id: encoder.encode_images([open_image(Path(file))[0]])[0] for id, (file, _) in found.items()}
    assert {id: bool(own[id] @ vector > 0.9999) for id, (_, vector) in found.items()} == dict.fromkeys(found, True)
    with Collection.open(path, encoder=encoder) as collection:
        hits = collection.search_vectors(list(own), np.stack(list(own.values())), len(found))
    assert {hit.id for hit in hits} == set(ids)
    assert [hit.id for hit in hits[:: len(found)]] == list(own)  # each finds itself first
    assert min(hit.score for hit in hits[:: len(found)]) > 0.9995


SIX = ["2019/beach/china.jpg", "astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg"]


class TestUpdating:
    def test_the_first_run_encodes_all(self, index, path, photo_folder, tiny_encoder):
        told = []
        report = index(photo_folder, batch_size=4, watcher=Watcher(
            lambda total: told.append(("start", total)), lambda count: told.append(count)))
        assert told == [("start", 6), 4, 2]
        assert report == maintain.IndexReport(
            path, tiny_encoder.name, images=6, encoded=6, unchanged=0, dropped=0, skipped=[])
        assert_holds(path, SIX, tiny_encoder)
        manifest = Manifest.load(path)
        assert manifest.encoder.fingerprint == tiny_encoder.fingerprint
        assert manifest.counts == {"images": 6, "failed": 0}
        assert sorted(os.listdir(path.parent)) == ["photos", "photos.collection"]

    def test_the_second_run_encodes_none_and_loads_no_encoder(self, index, path, photo_folder, no_encoder):
        index(photo_folder)
        before = contents(path)
        no_encoder()
        for model in (None, "auto", Manifest.load(path).encoder.name):
            report = index(photo_folder, model=model)
            assert (report.images, report.encoded, report.unchanged, report.dropped) == (6, 0, 6, 0)
        assert contents(path) == before

    def test_changed_added_and_deleted_files(self, index, path, photo_folder, tiny_encoder):
        index(photo_folder)
        before = vectors(path)
        (photo_folder / "astronaut.png").unlink()
        shutil.copyfile(photo_folder / "coffee.png", photo_folder / "rocket.jpg")  # under its old name
        os.utime(photo_folder / "rocket.jpg", ns=(1, 1))
        shutil.copyfile(photo_folder / "flower.jpg", photo_folder / "2019" / "new.jpg")
        report = index(photo_folder)
        assert (report.images, report.encoded, report.reused, report.unchanged, report.dropped) == (6, 0, 2, 4, 1)
        after = vectors(path)
        assert after["rocket.jpg"][1] @ after["coffee.png"][1] > 0.9999
        assert after["rocket.jpg"][1] @ before["rocket.jpg"][1] < 0.999
        np.testing.assert_array_equal(after["chelsea.png"][1], before["chelsea.png"][1])
        with Collection.open(path, encoder=tiny_encoder) as collection:
            hits = collection.search("an astronaut", 6)
        assert sorted(hit.id for hit in hits) == sorted([*SIX[:1], *SIX[2:], "2019/new.jpg"])

    def test_deleting_and_adding_one_at_a_time(self, index, path, photo_folder, tiny_encoder):
        index(photo_folder)
        (photo_folder / "astronaut.png").rename(photo_folder.parent / "kept.png")
        assert index(photo_folder).dropped == 1
        assert_holds(path, [id for id in SIX if id != "astronaut.png"], tiny_encoder)
        (photo_folder.parent / "kept.png").rename(photo_folder / "astronaut.png")
        assert index(photo_folder).encoded == 1
        assert_holds(path, SIX, tiny_encoder)

    def test_a_second_folder_keeps_the_first_ones_documents(
        self, index, path, photo_folder, sample_photos, tmp_path, tiny_encoder
    ):
        index(photo_folder)
        others = [photo for photo in sample_photos if not any(id.endswith(photo.name) for id in SIX)]
        scans = tmp_path / "scans"
        scans.mkdir()
        shutil.copyfile(others[0], scans / "rocket.jpg")  # the same name as in photos
        report = index(scans)
        assert (report.images, report.encoded, report.dropped) == (7, 1, 0)
        assert_holds(path, [*SIX, "scans/rocket.jpg"], tiny_encoder)
        (scans / "rocket.jpg").unlink()
        shutil.copyfile(others[1], scans / "b.png")
        assert index(photo_folder, scans).dropped == 1
        assert_holds(path, [*SIX, "b.png"], tiny_encoder)

    def test_two_roots_with_the_same_names(self, index, path, photo_folder, tmp_path, tiny_encoder):
        copy = shutil.copytree(photo_folder, tmp_path / "scans")
        report = index(photo_folder, copy)
        assert report.images == 12
        assert {id: file for id, (file, _) in vectors(path).items()} == {
            **{id: str(photo_folder / id) for id in SIX}, **{f"scans/{id}": str(copy / id) for id in SIX},
        }

    def test_a_collection_inside_its_folder_is_not_indexed(self, photo_folder, tiny_encoder):
        inside = photo_folder / "mine.collection"
        for encoded in (6, 0):
            report = index_sources([photo_folder], inside, Options(tiny_encoder.name, "cpu", "float32"))
            assert (report.images, report.encoded) == (6, encoded)


class TestUnreadableFiles:
    def test_they_are_named_remembered_and_not_tried_again(self, index, path, photo_folder, no_encoder):
        (photo_folder / "broken.jpg").write_bytes((photo_folder / "rocket.jpg").read_bytes()[:3000])
        (photo_folder / "text.png").write_text("no picture")
        report = index(photo_folder)
        assert (report.images, report.encoded, report.unchanged) == (6, 6, 0)
        (first, first_reason), second = report.skipped
        assert first == str(photo_folder / "broken.jpg") and first_reason.startswith("damaged or truncated (")
        assert second == (str(photo_folder / "text.png"), "not an image in a format that can be read")
        assert Manifest.load(path).counts == {"images": 6, "failed": 2}
        no_encoder()
        again = index(photo_folder, model=None)
        assert (again.images, again.encoded, again.unchanged, again.skipped) == (6, 0, 6, report.skipped)

    def test_a_mended_file_is_tried_again(self, index, path, photo_folder, tiny_encoder):
        (photo_folder / "late.jpg").touch()
        index(photo_folder)
        shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "late.jpg")
        report = index(photo_folder)
        assert (report.images, report.encoded, report.reused, report.skipped) == (7, 0, 1, [])
        assert vectors(path)["late.jpg"][1] @ vectors(path)["rocket.jpg"][1] > 0.9999

    def test_a_file_that_breaks_is_no_longer_found(self, index, path, photo_folder, tiny_encoder):
        index(photo_folder)
        (photo_folder / "rocket.jpg").write_text("oh no")
        report = index(photo_folder)
        assert (report.images, report.encoded, report.dropped) == (5, 0, 0)
        assert report.skipped == [(str(photo_folder / "rocket.jpg"), "not an image in a format that can be read")]
        assert_holds(path, SIX[:-1], tiny_encoder)


class TestNothingToIndex:
    def refused(self, index, folder, path):
        with pytest.raises(CorpusError) as caught:
            index(folder)
        assert not path.exists()
        assert not any(name.startswith(".") for name in os.listdir(path.parent))
        return str(caught.value)

    def test_a_folder_without_images(self, index, path, tmp_path, no_encoder):
        no_encoder()
        folder = tmp_path / "letters"
        folder.mkdir()
        (folder / "letter.txt").write_text("Dear Sir or Madam")
        assert self.refused(index, folder, path).startswith(f"No images in {folder} (looked for files named .jpg")

    def test_a_missing_folder(self, index, path, tmp_path, no_encoder):
        no_encoder()
        assert f"{tmp_path / 'gone'} does not exist" in self.refused(index, tmp_path / "gone", path)

    def test_no_readable_image(self, index, path, tmp_path):
        folder = tmp_path / "letters"
        folder.mkdir()
        (folder / "letter.jpg").write_text("Dear Sir or Madam")
        assert self.refused(index, folder, path) == (
            f"None of the 1 image files in {folder} could be read, so no collection was made. The first: "
            f"{folder / 'letter.jpg'}: not an image in a format that can be read."
        )

    def test_an_unknown_model(self, index, path, photo_folder):
        with pytest.raises(UnknownModelError):
            index(photo_folder, model="no-such-model")
        assert not path.exists()

    def test_an_emptied_folder_is_an_error_and_drops_nothing(self, index, path, photo_folder):
        """It may just be a disk that is not mounted."""
        index(photo_folder)
        shutil.rmtree(photo_folder)
        photo_folder.mkdir()
        with pytest.raises(CorpusError, match="No images in"):
            index(photo_folder)
        assert set(vectors(path)) == set(SIX)
