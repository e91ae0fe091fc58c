"""Which frames of a folder's animations and videos become documents."""

import pytest
from PIL import Image

from retrieval.corpus.folder import scan
from retrieval.corpus.moving import sample, told_passed_over


@pytest.fixture
def folder(tmp_path, write_video):
    folder = tmp_path / "clips"
    (folder / "2020").mkdir(parents=True)
    write_video(folder / "2020" / "a.MP4", [0, 50, 100], [0, 1000, 2000])
    pictures = [Image.new("L", (8, 8), 20 * index) for index in range(10)]
    pictures[0].save(folder / "ten.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(folder / "two.gif", save_all=True, append_images=pictures[1:2])
    pictures[0].save(folder / "still.png")
    return folder


def ids(found):
    return [image.relative for image in found.images]


def test_without_options_the_first_frame_and_no_video(folder):
    found = sample(scan([folder]))
    assert ids(found) == ["still.png", "ten.gif", "two.gif"]
    assert [video.relative for video in found.videos] == ["2020/a.MP4"]


def test_frames_are_spread_over_an_animation(folder):
    assert ids(sample(scan([folder]), frames=3)) == [
        "still.png", "ten.gif#frame=0", "ten.gif#frame=3", "ten.gif#frame=6",
        "two.gif#frame=0", "two.gif#frame=1"]


def test_a_video_every_so_many_seconds(folder):
    found = sample(scan([folder / "2020"]), video_every=0.8)
    assert ids(found) == ["a.MP4#t=0", "a.MP4#t=0.8", "a.MP4#t=1.6"] and found.videos == []
    status = (folder / "2020" / "a.MP4").stat()
    assert {(image.state.size, image.state.mtime_ns) for image in found.images} == {
        (status.st_size, status.st_mtime_ns)}
    assert found.images[1].state.path == f"{folder}/2020/a.MP4#t=0.8"


def test_a_video_given_by_name_is_sampled_anyway(folder):
    assert ids(sample(scan([folder / "2020" / "a.MP4"]))) == ["a.MP4#t=0"]


def test_a_video_that_cannot_be_opened_is_named(folder):
    (folder / "b.mkv").write_bytes(b"no video")
    found = sample(scan([folder]), video_every=100)
    assert ids(found)[-1] == "2020/a.MP4#t=0"
    ((path, reason),) = found.unreadable
    assert path == f"{folder}/b.mkv" and reason.startswith("damaged or truncated (")


def test_the_sentence_on_videos_passed_over():
    assert told_passed_over(12) == "12 videos were passed over; --video-every 10 samples a frame each 10 seconds."
    assert told_passed_over(1).startswith("1 video was passed over;")
