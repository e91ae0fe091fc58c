"""Files that were touched, moved or copied: known content is never embedded again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.images import open_image
from retrieval.maintain import Options, Watcher, index_sources

SIX = ["2019/beach/china.jpg", "astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg"]

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def path(photo_folder, tmp_path, tiny_encoder, monkeypatch):
    """A collection of the photo folder; from here on, loading any encoder fails the test."""
    path = tmp_path / "photos.collection"
    index_sources([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    monkeypatch.setattr(maintain, "load_encoder", forbidden)
    monkeypatch.setattr(maintain, "load_recorded_encoder", forbidden)
    return path


@pytest.fixture
def allowed(monkeypatch, tiny_encoder):
    """allowed() lets the encoder be loaded again, and gives what it prepared."""
    prepared = []

    class Noting:
        name, dim, fingerprint = tiny_encoder.name, tiny_encoder.dim, tiny_encoder.fingerprint
        encode_prepared = staticmethod(tiny_encoder.encode_prepared)

        def prepare(self, image):
            prepared.append(image.size)
            return tiny_encoder.prepare(image)

    def allow():
        monkeypatch.setattr(maintain, "load_recorded_encoder", lambda *_, **__: Noting())
        return prepared

    return allow


def forbidden(*_, **__):
    raise AssertionError("an encoder was loaded")


def touch(file, seconds=1):
    os.utime(file, ns=(seconds * 10**9, seconds * 10**9))


def counts(report):
    return {name: getattr(report, name) for name in ("encoded", "unchanged", "moved", "reused", "dropped")
            if getattr(report, name)}


def others(photos):
    """Those that are not in the photo folder."""
    return [photo for photo in photos if not any(id.endswith(photo.name) for id in SIX)]


def rows(path):
    with Collection.open(path) as collection:
        return dict(collection.catalog.indexed())


def assert_right(path, encoder):
    """Every document has its own file's vector and facts, and a search by it finds it first."""
    with Collection.open(path, encoder=encoder) as collection:
        ids = {file: id for file, id in collection.catalog.ids_by_path().items()}
        where = {id: file for file, id in ids.items()}
        found = collection.catalog.indexed()
        assert len({row for _, row in found}) == len(found)  # 1:1 with documents
        images = {id: open_image(Path(where[id])) for id, _ in found}
        own = encoder.encode_images([image for image, _ in images.values()])
        stored = collection.vectors.take(np.array([row for _, row in found]))
        assert np.einsum("nd,nd->n", own, stored).min() > 0.9999
        sql = "SELECT id, width, height FROM documents WHERE state = 'indexed'"
        assert {id: size for id, *size in collection.catalog._select(sql)} == {
            id: [facts.width, facts.height] for id, (_, facts) in images.items()}
        hits = collection.search_vectors(list(images), own, 1)
        assert [hit.score > 0.9995 for hit in hits] == [True] * len(found)
        known = collection.catalog.known_files()
    for file, state in known.items():
        assert (state.size, state.mtime_ns) == (os.stat(file).st_size, os.stat(file).st_mtime_ns)


def test_a_touched_file_keeps_its_vector(path, photo_folder, tiny_encoder):
    before = rows(path)
    touch(photo_folder / "rocket.jpg")
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 6}
    assert rows(path) == before
    assert_right(path, tiny_encoder)


def test_moved_and_renamed_files_keep_their_rows(path, photo_folder, tiny_encoder):
    before = rows(path)
    (photo_folder / "rocket.jpg").rename(photo_folder / "Apollo 11.jpg")
    (photo_folder / "2019").rename(photo_folder / "2020")
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 4, "moved": 2}
    after = rows(path)
    assert after == {"2020/beach/china.jpg": before.pop("2019/beach/china.jpg"),
                     "Apollo 11.jpg": before.pop("rocket.jpg"), **before}
    assert_right(path, tiny_encoder)


def test_a_copy_gets_a_row_of_its_own(path, photo_folder, tiny_encoder):
    before = rows(path)
    for name in ("a.jpg", "b.jpg"):
        shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / name)
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 6, "reused": 2}
    assert rows(path) == {**before, "a.jpg": 6, "b.jpg": 7}
    assert_right(path, tiny_encoder)


def test_a_file_moved_and_copied(path, photo_folder, tiny_encoder):
    before = rows(path)
    shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "z.jpg")
    (photo_folder / "rocket.jpg").rename(photo_folder / "a.jpg")
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 5, "moved": 1, "reused": 1}
    row = before.pop("rocket.jpg")
    assert rows(path) == {**before, "a.jpg": row, "z.jpg": 6}
    assert_right(path, tiny_encoder)


def test_files_that_swap_their_names(path, photo_folder, tiny_encoder):
    (photo_folder / "rocket.jpg").rename(photo_folder / "x")
    (photo_folder / "flower.jpg").rename(photo_folder / "rocket.jpg")
    (photo_folder / "x").rename(photo_folder / "flower.jpg")
    touch(photo_folder / "rocket.jpg")
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 4, "reused": 2}
    assert_right(path, tiny_encoder)


def test_a_chain_of_renames(path, photo_folder, tiny_encoder):
    (photo_folder / "flower.jpg").rename(photo_folder / "z.jpg")
    (photo_folder / "rocket.jpg").rename(photo_folder / "flower.jpg")
    report = index_sources([photo_folder], path)
    assert counts(report) == {"unchanged": 4, "moved": 1, "reused": 1}
    assert sorted(rows(path)) == sorted([*SIX[:-1], "z.jpg"])
    assert_right(path, tiny_encoder)


def test_a_folder_that_was_moved_away_is_followed(path, photo_folder, tmp_path, tiny_encoder):
    before = rows(path)
    photo_folder.rename(tmp_path / "pictures")
    assert counts(index_sources([tmp_path / "pictures"], path)) == {"moved": 6}
    assert rows(path) == before  # the ids too
    assert_right(path, tiny_encoder)


def test_an_overwritten_file_is_a_move_onto_it(path, photo_folder, tiny_encoder):
    (photo_folder / "rocket.jpg").replace(photo_folder / "flower.jpg")
    assert counts(index_sources([photo_folder], path)) == {"unchanged": 4, "moved": 1}
    assert sorted(rows(path)) == SIX[:-1]
    assert_right(path, tiny_encoder)


def test_only_new_content_reaches_the_encoder(path, photo_folder, sample_photos, tiny_encoder, allowed):
    new = others(sample_photos)[0]
    prepared = allowed()
    touch(photo_folder / "coffee.png")
    (photo_folder / "rocket.jpg").rename(photo_folder / "a.jpg")
    for name in ("m.png", "n.png"):  # the same content twice
        shutil.copyfile(new, photo_folder / name)
    (photo_folder / "flower.jpg").unlink()
    report = index_sources([photo_folder], path)
    assert counts(report) == {"unchanged": 4, "moved": 1, "encoded": 1, "reused": 1, "dropped": 1}
    assert set(prepared) == {open_image(new)[0].size}
    assert_right(path, tiny_encoder)


def test_a_stop_drops_nothing_that_may_have_moved(path, photo_folder, sample_photos, tiny_encoder, allowed):
    allowed()
    for number, photo in enumerate(others(sample_photos)[:3]):
        shutil.copyfile(photo, photo_folder / f"a{number}{photo.suffix}")
    (photo_folder / "rocket.jpg").rename(photo_folder / "z.jpg")
    report = index_sources([photo_folder], path, Options(batch_size=1), watcher=Watcher(stop=lambda: True))
    assert report.interrupted and counts(report) == {"unchanged": 5, "encoded": 1}
    report = index_sources([photo_folder], path)
    assert not report.interrupted and counts(report) == {"unchanged": 6, "encoded": 2, "moved": 1}
    assert_right(path, tiny_encoder)


class TestFailures:
    @pytest.fixture
    def broken(self, path, photo_folder, allowed):
        allowed()
        (photo_folder / "bad.jpg").write_text("no picture")
        index_sources([photo_folder], path)
        return photo_folder / "bad.jpg"

    def test_touched_moved_and_copied_ones_are_not_tried_again(self, path, photo_folder, broken, monkeypatch):
        monkeypatch.setattr("retrieval.reading.open_image", forbidden)
        touch(broken)
        broken.rename(photo_folder / "worse.jpg")
        shutil.copyfile(photo_folder / "worse.jpg", photo_folder / "worst.jpg")
        report = index_sources([photo_folder], path)
        assert counts(report) == {"unchanged": 6}
        assert [(os.path.basename(file), reason) for file, reason in report.skipped] == [
            ("worse.jpg", "not an image in a format that can be read"),
            ("worst.jpg", "not an image in a format that can be read")]

    def test_they_are_tried_again_on_request(self, path, photo_folder, broken, tiny_encoder, monkeypatch):
        read = open_image
        with monkeypatch.context() as patched:  # as if a newer Pillow could
            patched.setattr("retrieval.reading.open_image",
                            lambda content, **options: read(
                                content if content != b"no picture" else photo_folder / "rocket.jpg", **options))
            assert counts(index_sources([photo_folder], path)) == {"unchanged": 6}
            report = index_sources([photo_folder], path, Options(retry_failed=True))
        assert (report.images, report.encoded, report.unchanged, report.skipped) == (7, 1, 6, [])
        report = index_sources([photo_folder], path, Options(retry_failed=True))
        assert (report.images, report.unchanged) == (7, 7)

    def test_a_new_broken_file_loads_no_encoder(self, path, photo_folder):
        (photo_folder / "bad.jpg").write_text("no picture")
        report = index_sources([photo_folder], path)
        assert counts(report) == {"unchanged": 6} and len(report.skipped) == 1
