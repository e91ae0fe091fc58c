"""Frames as documents, from file to vector: what is encoded, kept, and dropped."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.corpus import addresses
from retrieval.errors import CorpusError
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def folder(tmp_path, write_video):
    """A video of six seconds with a new picture each half of one."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "a.mp4", [20 * index for index in range(12)], [500 * index for index in range(12)])
    return folder


@pytest.fixture
def index(folder, tmp_path, tiny_encoder):
    def index(every=2.0, model=tiny_encoder.name):
        return index_sources([folder], tmp_path / "clips.collection",
                             Options(model, "cpu", "float32", video_every=every))

    return index


@pytest.fixture
def rows(tmp_path):
    def rows():
        with Collection.open(tmp_path / "clips.collection") as collection:
            return dict(collection.catalog.indexed())

    return rows


def counts(report):
    return {name: getattr(report, name) for name in ("encoded", "unchanged", "moved", "reused", "dropped")
            if getattr(report, name)}


def forbid_encoders(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(maintain, "load_encoder", forbidden)
    monkeypatch.setattr(maintain, "load_recorded_encoder", forbidden)


def test_each_frame_has_the_vector_of_its_picture(index, rows, folder, tmp_path, tiny_encoder):
    assert counts(index()) == {"encoded": 3}
    assert sorted(rows()) == ["a.mp4#t=0", "a.mp4#t=2", "a.mp4#t=4"]
    with Collection.open(tmp_path / "clips.collection", encoder=tiny_encoder) as collection:
        for id, row in collection.catalog.indexed():
            image = open_image(addresses.read(f"{folder}/{id}"))[0]
            own = tiny_encoder.encode_images([image])[0]
            assert float(collection.vectors.take(np.array([row]))[0] @ own) > 0.9999


def test_an_unchanged_video_is_not_decoded(index, monkeypatch):
    index()
    forbid_encoders(monkeypatch)
    monkeypatch.setattr(addresses, "video_frame", None)
    assert counts(index(model=None)) == {"unchanged": 3}


def test_another_interval(index, rows):
    index()
    before = rows()
    assert counts(index(3.0)) == {"encoded": 1, "unchanged": 1, "dropped": 2}
    assert rows()["a.mp4#t=0"] == before["a.mp4#t=0"] and sorted(rows()) == ["a.mp4#t=0", "a.mp4#t=3"]


def test_a_touched_and_a_moved_video_keep_their_vectors(index, rows, folder, monkeypatch):
    index()
    before = rows()
    forbid_encoders(monkeypatch)
    os.utime(folder / "a.mp4", (1, 1))
    assert counts(index(model=None)) == {"unchanged": 3}
    (folder / "a.mp4").rename(folder / "b.mp4")
    assert counts(index(model=None)) == {"moved": 3}
    assert rows() == {id.replace("a.mp4", "b.mp4"): row for id, row in before.items()}


def test_a_copied_video_leaves_the_first_one_its_documents(index, rows, folder, monkeypatch):
    index()
    before = rows()
    forbid_encoders(monkeypatch)
    shutil.copyfile(folder / "a.mp4", folder / "b.mp4")
    assert counts(index(model=None)) == {"unchanged": 3, "reused": 3}
    assert {id: row for id, row in rows().items() if id.startswith("a.mp4")} == before


def test_a_video_that_cannot_be_opened_now_keeps_its_documents(index, rows, folder):
    index()
    before = rows()
    (folder / "a.mp4").write_bytes(b"half a vid")
    shutil.copyfile(folder / "a.mp4", folder / "b.mp4")
    with pytest.raises(CorpusError, match="b.mp4|a.mp4"):
        index()
    Image.new("L", (9, 9)).save(folder / "still.png")
    report = index()
    assert counts(report) == {"encoded": 1}
    assert [path for path, _ in report.skipped] == [f"{folder}/a.mp4", f"{folder}/b.mp4"]
    assert {id: row for id, row in rows().items() if id != "still.png"} == before


def test_videos_passed_over_keep_their_documents_while_they_are_there(index, rows, folder):
    Image.new("L", (9, 9)).save(folder / "still.png")
    index()
    report = index(None)
    assert counts(report) == {"unchanged": 1} and report.passed_over == 1 and report.images == 4
    (folder / "a.mp4").unlink()
    assert counts(index(None)) == {"unchanged": 1, "dropped": 3}
    assert list(rows()) == ["still.png"]


def test_a_folder_of_videos_alone_says_what_to_do(index, folder):
    with pytest.raises(CorpusError, match="1 video was passed over; --video-every 10 "):
        index(None)
