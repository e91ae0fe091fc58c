"""Frames of videos that were made for the test, each picture of a grey of its own."""

import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from PIL import Image, ImageStat

from retrieval.errors import ImageError
from retrieval.images import open_image
from retrieval.images.video import duration, video_frame

pytest.importorskip("av")
GREYS = [10 * index for index in range(25)]  # ten a second, two and a half seconds


def grey(path, seconds):
    """To the nearest that was painted."""
    mean = ImageStat.Stat(open_image(video_frame(path, seconds))[0]).mean
    return round(sum(mean) / 30) * 10


def reason(path):
    with pytest.raises(ImageError) as raised:
        duration(path)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.mov", "mpeg4"),
     ("a.wmv", "wmv2"), ("a.flv", "flv"), ("a.mts", "libx264")],
)
def test_a_frame_is_what_was_painted_at_its_time(tmp_path, write_video, name, codec):
    path = write_video(tmp_path / name, GREYS, codec=codec)
    assert duration(path) == pytest.approx(2.5, abs=0.11)
    times = {0: 0, 0.1: 10, 0.199: 10, 0.2: 20, 1.25: 120, 2: 200, 2.4: 240, 60: 240}
    assert {time: grey(path, time) for time in times} == times


def test_the_same_from_many_threads(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", GREYS)
    times = [index / 10 for index in range(0, 25, 2)] * 2
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda time: grey(path, time), times)) == [round(time * 100) for time in times]


def test_frames_of_varying_length(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", [50, 100, 150, 200], [0, 40, 3000, 3040])
    assert [grey(path, time) for time in (0, 0.039, 0.04, 2.999, 3, 3.04)] == [50, 50, 100, 100, 150, 200]


def test_a_video_that_begins_late_begins_at_its_first_frame(tmp_path, write_video):
    path = write_video(tmp_path / "a.mkv", [50, 100], [7000, 8000])
    assert [grey(path, time) for time in (0, 0.999, 1)] == [50, 50, 100]
    assert duration(path) == pytest.approx(1.1)


@pytest.mark.parametrize(("rotation", "size", "quarters"), [
    (90, (48, 64), [0, 0, 250, 250]), (-90, (48, 64), [250, 250, 0, 0]), (180, (64, 48), [0, 250, 0, 250])])
def test_turned_upright(tmp_path, write_video, rotation, size, quarters):
    """The left half is light. Degrees count against the clock."""
    path = write_video(tmp_path / "a.mp4", [0], rotation=rotation, left=250)
    image, facts = open_image(video_frame(path, 0))
    assert image.size == size == (facts.width, facts.height)
    assert list(image.convert("L").resize((2, 2), Image.Resampling.BOX).tobytes()) == pytest.approx(quarters, abs=4)


def test_a_telephone_held_upright_says_a_quarter_with_the_clock(tmp_path, write_video):
    """The matrix that it writes takes (x, y), y downwards, to (-y, x)."""
    path = write_video(tmp_path / "a.mp4", [0], rotation=-90)
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    content = path.read_bytes()
    assert content[content.index(b"tkhd") :].find(matrix[:20]) > 0


def test_pixels_become_square(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", [100], shape=Fraction(4, 3))
    assert open_image(video_frame(path, 0))[0].size == (85, 48)


def test_pixels_become_square_within_the_limit_of_size(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "a.mp4", [100], shape=Fraction(4, 3))
    monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.004")
    with pytest.raises(ImageError, match=r"^larger than 0.004 megapixels \(85 x 48\)"):
        video_frame(path, 0)


def test_the_date_of_a_frame(tmp_path, write_video):
    dated = write_video(tmp_path / "a.mp4", GREYS, metadata={"creation_time": "2024-05-01T23:59:58Z"})
    assert open_image(video_frame(dated, 3))[1].taken_at == "2024-05-02T00:00:01"
    assert open_image(video_frame(write_video(tmp_path / "b.mp4", GREYS), 3))[1].taken_at is None


def test_files_that_are_no_videos(tmp_path, write_video):
    import av

    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert reason(empty) == "the file is empty"
    whole = write_video(tmp_path / "whole.mp4", GREYS)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:2000])
    assert "truncated" in reason(cut)
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert reason(sound) == "no pictures can be found in it; it may be sound alone, or truncated"
    assert reason(tmp_path / "none.mp4") == "cannot be read: No such file or directory"


def test_what_lies_behind_a_cut_is_an_error_or_the_last_picture(tmp_path, write_video):
    path = write_video(tmp_path / "a.mkv", GREYS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert grey(path, 0.5) == 50
    assert 50 < grey(path, 2.4) < 200


def test_without_pyav(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "a.mp4", GREYS)
    monkeypatch.setitem(sys.modules, "av", None)
    assert reason(path) == "video needs PyAV: pip install 'crossmodal-retrieval[video]'"
