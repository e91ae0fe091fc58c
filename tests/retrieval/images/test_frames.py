"""Frames of animations, as they are shown."""

import io

import pytest
from PIL import ExifTags, Image, ImageDraw

from retrieval.errors import ImageError
from retrieval.images import open_image
from retrieval.images.frames import animation_frame, count_frames

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]


def shown(content, number):
    return open_image(animation_frame(content, number))[0]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif", "a.tiff"])
def test_every_frame_in_its_colour(tmp_path, name):
    first, *others = [Image.new("RGB", (32, 24), colour) for colour in COLOURS]
    path = tmp_path / name
    first.save(path, save_all=True, append_images=others, duration=100)
    assert count_frames(path) == 4
    content = path.read_bytes()
    for number in (2, 0, 3, 1):
        found = shown(content, number)
        assert found.mode == "RGB" and found.size == (32, 24)
        assert found.getpixel((16, 12)) == pytest.approx(COLOURS[number], abs=12)


@pytest.mark.parametrize(("disposal", "left"), [(1, (250, 0, 0)), (2, (255, 255, 255))])
def test_a_gif_frame_lies_over_what_the_one_before_leaves(disposal, left):
    """1 leaves the picture, 2 clears it: of that, transparent parts show white."""
    clear, red, blue = range(3)
    frames = []
    for box, colour in (((0, 0, 9, 19), red), ((10, 0, 19, 19), blue)):
        frame = Image.new("P", (20, 20), clear)
        frame.putpalette([1, 2, 3, 250, 0, 0, 0, 0, 250])
        ImageDraw.Draw(frame).rectangle(box, fill=colour)
        frames.append(frame)
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100, transparency=0,
                   disposal=disposal, optimize=False)
    first, second = (shown(buffer.getvalue(), number) for number in (0, 1))
    assert (first.getpixel((5, 5)), first.getpixel((15, 5))) == ((250, 0, 0), (255, 255, 255))
    assert (second.getpixel((5, 5)), second.getpixel((15, 5))) == (left, (0, 0, 250))


def test_facts_of_the_picture_stay_with_its_frames():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Canon"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 30.0, 0.0), 3: "E", 4: (151.0, 0.0, 0.0)})
    buffer = io.BytesIO()
    first, second = (Image.new("RGB", (30, 20), colour) for colour in COLOURS[:2])
    first.save(buffer, "WEBP", save_all=True, append_images=[second], exif=exif.tobytes())
    image, facts = open_image(animation_frame(buffer.getvalue(), 1))
    assert image.size == (20, 30) == (facts.width, facts.height)
    assert (facts.taken_at, facts.camera, facts.lat, facts.lon) == ("2020-01-02T03:04:05", "Canon", -33.5, 151)


def test_pages_have_sizes_of_their_own():
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "TIFF", save_all=True, append_images=[Image.new("L", (8, 9), 70)])
    page = shown(buffer.getvalue(), 1)
    assert page.size == (8, 9) and page.getpixel((0, 0)) == (70, 70, 70)


def test_what_cannot_be_had(tmp_path, monkeypatch):
    broken = tmp_path / "broken.gif"
    broken.write_bytes(b"GIF89a")
    assert count_frames(broken) == count_frames(tmp_path / "none.gif") == 1
    buffer = io.BytesIO()
    Image.new("L", (40, 30)).save(buffer, "GIF", save_all=True, append_images=[Image.new("L", (40, 30), 9)])
    with pytest.raises(ImageError, match="^there is no frame 7$"):
        animation_frame(buffer.getvalue(), 7)
    with pytest.raises(ImageError):
        animation_frame(buffer.getvalue()[:60], 1)
    monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(ImageError, match="^larger than 0.001 megapixels"):
        animation_frame(buffer.getvalue(), 1)
