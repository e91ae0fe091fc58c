"""Addresses of frames: written, read, and put into words."""

import pytest
from PIL import Image

from retrieval.corpus import addresses
from retrieval.images import open_image


def colour(address):
    return open_image(addresses.read(address))[0].getpixel((5, 5))


def test_written_with_as_few_digits_as_needed():
    times = [0.0, 10.0, 83.5, 0.1 + 0.2, 100000.125]
    assert [addresses.at_time("a.mp4", time) for time in times] == [
        "a.mp4#t=0", "a.mp4#t=10", "a.mp4#t=83.5", "a.mp4#t=0.3", "a.mp4#t=100000.125"]
    assert addresses.of_frame("a.gif", 12) == "a.gif#frame=12"


@pytest.mark.parametrize(
    ("address", "words", "position"),
    [
        ("/x/clip.mp4#t=83", "/x/clip.mp4 @ 00:01:23", {"time_seconds": 83.0}),
        ("clip #2.mkv#t=36000.25", "clip #2.mkv @ 10:00:00.25", {"time_seconds": 36000.25}),
        ("a.gif#frame=12", "a.gif @ frame 12", {"frame": 12}),
        ("/x/a.jpg", "/x/a.jpg", {}),
        ("/x/shard.tar#a.jpg", "/x/shard.tar#a.jpg", {}),
        ("#t=.jpg", "#t=.jpg", {}),
    ],
)
def test_for_people_and_for_programs(address, words, position):
    assert addresses.in_words(address) == words
    assert addresses.position(address) == position


def test_frames_are_read_and_missing_with_their_file(tmp_path, write_video):
    video = write_video(tmp_path / "a.mp4", [40, 80, 120, 160])
    assert colour(f"{video}#t=0.2") == pytest.approx((120,) * 3, abs=3)
    gif = tmp_path / "a.gif"
    Image.new("RGB", (9, 9), "red").save(gif, save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")])
    assert (colour(str(gif)), colour(f"{gif}#frame=1")) == ((255, 0, 0), (0, 0, 255))
    frames = [f"{video}#t=0.2", f"{gif}#frame=1"]
    assert [addresses.is_missing(address) for address in frames] == [False, False]
    video.unlink(), gif.unlink()
    assert [addresses.is_missing(address) for address in frames] == [True, True]


def test_a_file_of_that_very_name_comes_first(tmp_path):
    Image.new("RGB", (9, 9), "lime").save(tmp_path / "a.gif#frame=1", "PNG")
    assert colour(str(tmp_path / "a.gif#frame=1")) == (0, 255, 0)
