"""Collections of archives, lists, tables and links, from the first run to the next ones."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.corpus import addresses
from retrieval.errors import CorpusError
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources

pytestmark = pytest.mark.usefixtures("loaded_once")
SIX = ["2019/beach/china.jpg", "astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.collection"


@pytest.fixture
def index(path, tiny_encoder):
    """index(source, ...) makes or updates the collection at `path`; its counts that are not 0"""

    def index(*sources, retry_failed=False, **options):
        settings = Options(tiny_encoder.name, "cpu", "float32", retry_failed=retry_failed)
        report = index_sources(sources, path, settings, **options)
        counts = {name: getattr(report, name) for name in ("encoded", "unchanged", "moved", "reused", "dropped")}
        return {name: count for name, count in counts.items() if count} | (
            {"skipped": [place for place, _ in report.skipped]} if report.skipped else {}
        )

    return index


@pytest.fixture
def idle(monkeypatch):
    """From here on, reading an image or loading an encoder fails the test."""

    def forbid(reading=True):
        def refuse(*_, **__):
            raise AssertionError("an image was read, or an encoder was loaded")

        monkeypatch.setattr(maintain, "load_encoder", refuse)
        monkeypatch.setattr(maintain, "load_recorded_encoder", refuse)
        if reading:
            monkeypatch.setattr(addresses, "read", refuse)

    return forbid


def tarred(path, folder, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.add(folder / name, name)
    return path


def zipped(path, folder, names):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
    return path


def held(path):
    """id -> (address, captions)"""
    with Collection.open(path) as collection:
        return {
            document.id: (document.file.path, document.captions)
            for _, document in collection.catalog.described(0, collection.catalog.vector_rows)
        }


@pytest.mark.parametrize("pack", [tarred, zipped])
class TestArchives:
    def test_vectors_are_those_of_the_photos(self, index, path, tmp_path, photo_folder, tiny_encoder, pack):
        archive = pack(tmp_path / "photos.tar", photo_folder, SIX)
        assert index(archive) == {"encoded": 6}
        assert {id: address for id, (address, _) in held(path).items()} == {name: f"{archive}#{name}" for name in SIX}
        expected = tiny_encoder.encode_images([open_image(photo_folder / name)[0] for name in SIX])
        with Collection.open(path, encoder=tiny_encoder) as collection:
            hits = collection.search_vectors(SIX, expected, 1)
        assert [hit.id for hit in hits] == SIX and min(hit.score for hit in hits) > 0.9995

    def test_a_rerun_reads_nothing(self, index, tmp_path, photo_folder, idle, pack):
        archive = pack(tmp_path / "photos.tar", photo_folder, SIX)
        index(archive)
        idle()
        assert index(archive) == {"unchanged": 6}

    def test_written_anew_without_one_member(self, index, path, tmp_path, photo_folder, idle, pack):
        archive = pack(tmp_path / "photos.tar", photo_folder, SIX)
        index(archive)
        idle(reading=False)
        pack(archive, photo_folder, SIX[1:])
        assert index(archive) == {"unchanged": 5, "dropped": 1}
        assert sorted(held(path)) == SIX[1:]

    def test_moved_with_all_that_is_in_it(self, index, path, tmp_path, photo_folder, idle, pack):
        archive = pack(tmp_path / "photos.tar", photo_folder, SIX)
        index(archive)
        idle(reading=False)
        archive.rename(tmp_path / "other.tar")
        assert index(tmp_path / "other.tar") == {"moved": 6}
        assert held(path)["rocket.jpg"][0] == f"{tmp_path}/other.tar#rocket.jpg"

    def test_unpacked(self, index, tmp_path, photo_folder, idle, pack):
        archive = pack(tmp_path / "photos.tar", photo_folder, SIX)
        index(archive)
        archive.unlink()
        idle(reading=False)
        assert index(photo_folder) == {"moved": 6}

    def test_damaged_later(self, index, path, tmp_path, photo_folder, pack):
        first, second = (pack(tmp_path / f"{name}.tar", photo_folder, SIX[start:]) for name, start in (("a", 0), ("b", 3)))
        assert index(first, second) == {"encoded": 6, "reused": 3}
        first.write_bytes(first.read_bytes()[:-40_000])
        report = index(first, second)
        assert report["skipped"][0] == str(first) and "dropped" not in report
        assert len(held(path)) == 9

    def test_names_that_clash(self, index, path, tmp_path, photo_folder, pack):
        index(*(pack(tmp_path / f"{number}.tar", photo_folder, ["rocket.jpg"]) for number in range(2)))
        assert sorted(held(path)) == ["1.tar/rocket.jpg", "rocket.jpg"]


def test_a_folder_keeps_what_its_neighbour_with_a_mark_holds(index, path, tmp_path, photo_folder):
    other = photo_folder.with_name("photos#2")
    shutil.copytree(photo_folder / "2019", other)
    index(photo_folder, other)
    (photo_folder / "rocket.jpg").unlink()
    assert index(photo_folder) == {"unchanged": 5, "dropped": 1}
    assert len(held(path)) == 6


def test_captions_of_an_archive_are_kept_and_renewed(index, path, tmp_path, photo_folder, idle):
    for text in ("a rocket", "a rocket\nstarting at night"):
        (photo_folder / "rocket.txt").write_text(text)
        archive = tarred(tmp_path / "photos.tar", photo_folder, ["rocket.jpg", "rocket.txt", "coffee.png"])
        index(archive)
        idle(reading=False)
    assert held(path)["rocket.jpg"][1] == ("a rocket", "starting at night")
    assert held(path)["coffee.png"][1] == ()


def test_a_list_drops_nothing(index, path, photo_folder):
    assert index(photo_folder) == {"encoded": 6}
    listed = io.BytesIO(f"{photo_folder}/rocket.jpg\n{photo_folder}/gone.jpg\n".encode())
    assert index(listed) == {"unchanged": 1, "skipped": [f"{photo_folder}/gone.jpg"]}
    assert len(held(path)) == 6


def test_a_table_and_the_folder_of_its_images(index, path, photo_folder, idle):
    table = photo_folder / "captions.jsonl"
    rows = [{"image": "rocket.jpg", "caption": ["a rocket", "fire"]}, {"image": "coffee.png", "caption": "a cup"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    assert index(table) == {"encoded": 2}
    assert index(photo_folder) == {"encoded": 4, "unchanged": 2}  # which says nothing of captions
    idle()
    assert index(table) == {"unchanged": 2}
    assert {id: captions for id, (_, captions) in held(path).items() if captions} == {
        "rocket.jpg": ("a rocket", "fire"), "coffee.png": ("a cup",),
    }


def test_storage_elsewhere(index, path, photo_folder, idle):
    system = fsspec.filesystem("memory")
    for name in SIX[:3]:
        system.pipe(f"/shelf/{name}", (photo_folder / name).read_bytes())
    try:
        assert index("memory://shelf") == {"encoded": 3}
        system.rm("/shelf/astronaut.png")
        idle()
        assert index("memory://shelf") == {"unchanged": 2, "dropped": 1}
        assert held(path)["chelsea.png"][0] == "memory://shelf/chelsea.png"
    finally:
        system.rm("/shelf", recursive=True)


def test_a_link_that_fails_is_tried_again_when_asked(index, photo_folder):
    system = fsspec.filesystem("memory")
    listed = f"memory://late/rocket.jpg\n{photo_folder}/coffee.png".encode()
    missing = {"skipped": ["memory://late/rocket.jpg"]}
    assert index(io.BytesIO(listed)) == {"encoded": 1} | missing
    system.pipe("/late/rocket.jpg", (photo_folder / "rocket.jpg").read_bytes())
    try:
        assert index(io.BytesIO(listed)) == {"unchanged": 1} | missing
        assert index(io.BytesIO(listed), retry_failed=True) == {"encoded": 1, "unchanged": 1}
    finally:
        system.rm("/late", recursive=True)


def test_links_that_differ_in_a_query_or_a_slash(index, path, photo_folder):
    system = fsspec.filesystem("memory")
    content = (photo_folder / "rocket.jpg").read_bytes()
    system.pipe("/a/x.jpg", content)
    try:
        index(io.BytesIO(b"memory://a/x.jpg\nmemory://a//x.jpg\nmemory:///a/x.jpg\n"))
        with Collection.open(path) as collection:
            ids = collection.catalog.ids_by_path()
    finally:
        system.rm("/a", recursive=True)
    assert ids == {
        "memory://a/x.jpg": "x.jpg", "memory://a//x.jpg": "a/x.jpg", "memory:///a/x.jpg": "memory:/a/x.jpg",
    }


def test_nothing_to_be_found(index, path, tmp_path, photo_folder):
    archive = tarred(tmp_path / "notes.tar", Path(__file__).parent, [Path(__file__).name])
    with pytest.raises(CorpusError, match=r"^No images in .*notes.tar \(looked for files named .jpg"):
        index(archive)
    archive.write_bytes(b"\x1f\x8b compressed")
    with pytest.raises(CorpusError, match=f"that can be read. {archive}: compressed \\(gzip\\), and images are read"):
        index(archive)
    with pytest.raises(CorpusError, match="No images in the list that can be read. The first of 2: /gone/a.jpg: does not"):
        index(io.BytesIO(b"/gone/a.jpg\n/gone/b.jpg"))
    assert not path.exists()


def test_a_rebuild_of_a_list(index, path, photo_folder):
    index(photo_folder)
    assert index(io.BytesIO(f"{photo_folder}/rocket.jpg".encode()), rebuild=True) == {"encoded": 1}
    vectors = np.load(next((path / "vectors").iterdir()))
    assert list(held(path)) == ["rocket.jpg"] and len(vectors) >= 1
