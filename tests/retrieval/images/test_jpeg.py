"""simplejpeg gives what Pillow gives, to the bit, and leaves to Pillow what it does not take."""

import io
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from retrieval.errors import ImageError
from retrieval.images import jpeg, open_image

simplejpeg = pytest.importorskip("simplejpeg")


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def noise(width=333, height=251):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def decoded(monkeypatch):
    """Sizes that simplejpeg was used for."""
    decode, sizes = simplejpeg.decode_jpeg, []

    def noted(*arguments, **options):
        pixels = decode(*arguments, **options)
        sizes.append(pixels.shape[1::-1])
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    return sizes


def both(monkeypatch, content, at_least=None):
    """(image, facts), with simplejpeg and without."""
    found = open_image(content, at_least=at_least)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "simplejpeg", None)
        return found, open_image(content, at_least=at_least)


@pytest.mark.parametrize(("at_least", "size"), [(None, (333, 251)), (60, (167, 126)), (30, (84, 63))])
@pytest.mark.parametrize("options", [
    {}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}, {"keep_rgb": True},
], ids=str)
def test_the_same_pixels(monkeypatch, decoded, options, at_least, size):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = encoded(noise(), exif=exif, **options)
    (image, facts), (by_pillow, its_facts) = both(monkeypatch, content, at_least)
    np.testing.assert_array_equal(image, by_pillow)
    assert facts == its_facts and (facts.width, facts.height) == (251, 333)
    assert decoded == [size]


def test_real_photos(monkeypatch, decoded, sample_photos):
    files = [path.read_bytes() for path in sample_photos if path.suffix == ".jpg"]
    for content in files:  # colour profiles, EXIF and Adobe's marker among them
        (image, facts), (by_pillow, its_facts) = both(monkeypatch, content, 100)
        np.testing.assert_array_equal(image, by_pillow)
        assert facts == its_facts
    assert len(decoded) == len(files) > 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_pillows(monkeypatch, decoded, mode):
    (image, _), (by_pillow, _) = both(monkeypatch, encoded(noise().convert(mode)))
    np.testing.assert_array_equal(image, by_pillow)
    assert decoded == []


def test_what_it_refuses_is_pillows_to_judge(monkeypatch, decoded):
    content = encoded(noise())
    with pytest.raises(ImageError, match="damaged or truncated"):
        open_image(content[: len(content) // 2])
    trailing = content[:-2] + b"\0\0\0\0" + content[-2:]  # a warning, and no harm
    (image, _), (by_pillow, _) = both(monkeypatch, trailing)
    np.testing.assert_array_equal(image, by_pillow)


def test_a_size_that_is_not_the_drafts_is_not_taken(monkeypatch):
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: np.zeros((5, 5, 3), np.uint8))
    content = encoded(noise())
    assert jpeg.load(Image.open(io.BytesIO(content)), content).size == (333, 251)
