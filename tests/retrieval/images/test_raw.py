"""Camera RAW: real DNG files made here, and a stand-in for libraw where a camera's preview counts."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.TiffTags import ASCII, BYTE, LONG, RATIONAL, SHORT, SIGNED_RATIONAL

from retrieval.errors import ImageError
from retrieval.images import ImageFacts, check_header, open_image, raw


def dng(sensor, orientation):
    """An uncompressed DNG of a Bayer sensor's values: (height, width) uint16."""
    height, width = sensor.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in [
        (254, LONG, 0), (256, LONG, width), (257, LONG, height), (258, SHORT, 16), (259, SHORT, 1),
        (262, SHORT, 32803), (271, ASCII, "Maker"), (272, ASCII, "Box"), (273, LONG, 0),
        (274, SHORT, orientation), (277, SHORT, 1), (278, LONG, height), (279, LONG, sensor.nbytes),
        (33421, SHORT, (2, 2)), (33422, BYTE, bytes([0, 1, 1, 2])),
        (50706, BYTE, bytes([1, 4, 0, 0])), (50708, ASCII, "Maker Box"), (50717, LONG, 65535),
        (50721, SIGNED_RATIONAL, (3.24, -1.54, -0.5, -0.97, 1.88, 0.04, 0.06, -0.2, 1.06)),
        (50728, RATIONAL, (1, 1, 1)),
    ]:
        directory.tagtype[tag] = kind
        directory[tag] = value
    directory[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: "2019:07:14 21:05:09"}
    file = io.BytesIO()
    directory.save(file)
    file.write(sensor.tobytes())
    return file.getvalue()


@pytest.fixture(scope="module")
def sensor():
    """Dark but for the quarter at the top left."""
    values = np.full((200, 300), 3000, np.uint16)
    values[:100, :150] = 40_000
    return values


@pytest.mark.parametrize(("orientation", "size", "bright"), [(1, (300, 200), 0), (6, (200, 300), 1), (3, (300, 200), 3)])
def test_without_a_preview_the_sensor_is_rendered(sensor, orientation, size, bright):
    pytest.importorskip("rawpy")
    image, facts = open_image(dng(sensor, orientation))
    assert (image.mode, image.size) == ("RGB", (size[0] // 2, size[1] // 2))
    assert facts == ImageFacts(*size, "2019-07-14T21:05:09", "Maker Box")
    w, h = image.size
    levels = [image.getpixel((x, y))[1] for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]
    assert [level > 150 for level in levels] == [corner == bright for corner in range(4)]


def test_a_damaged_one_is_refused(sensor):
    pytest.importorskip("rawpy")
    with pytest.raises(ImageError, match="damaged or truncated"):
        open_image(b"FUJIFILMCCD-RAW 0201" + bytes(500))


def test_the_limit_holds(sensor):
    pytest.importorskip("rawpy")
    with pytest.raises(ImageError, match=r"larger than 0.05 megapixels \(200 x 300\)"):
        open_image(dng(sensor, 6), max_megapixels=0.05)


@pytest.mark.parametrize("content", [
    b"FUJIFILMCCD-RAW 0201", b"IIU\0\x18\0\0\0", b"IIRO\x08\0\0\0", b"\0\0\0\x18ftypcrx \0\0", b"II*\0\x10\0\0\0CR\x02\0",
])
def test_a_missing_library_is_named(monkeypatch, content):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError) as caught:
        open_image(content)
    assert str(caught.value) == "camera RAW needs rawpy: pip install 'crossmodal-retrieval[raw]'"


def test_ordinary_tiff_is_not_raw():
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "TIFF", compression="tiff_lzw")
    assert not raw.is_raw(file.getvalue())
    assert not raw.is_raw(b"II*\0\x08\0\0\0")  # cut off behind its header


class StandIn:
    """As much of rawpy as previews need, with the preview given."""

    class LibRawNoThumbnailError(Exception):
        pass

    class LibRawUnsupportedThumbnailError(Exception):
        pass

    ThumbFormat = SimpleNamespace(JPEG="jpeg", BITMAP="bitmap")

    def __init__(self, format, data, flip):
        self.thumb = SimpleNamespace(format=format, data=data)
        self.sizes = SimpleNamespace(width=6000, height=4000, flip=flip)

    def imread(self, file):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def extract_thumb(self):
        return self.thumb

    def postprocess(self, *, half_size, use_camera_wb, output_bps):
        assert half_size and use_camera_wb and output_bps == 8
        return np.full((3000, 2000, 3), (0, 0, 255), np.uint8)


def preview_jpeg(size, orientation=None):
    """Red on the left and lime on the right, as the sensor lies."""
    image = Image.new("RGB", size, "red")
    image.paste((0, 255, 0), (size[0] // 2, 0, *size))
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Box"
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


FUJIFILM = b"FUJIFILMCCD-RAW 0201"


@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize(("at_least", "size"), [(None, (800, 1200)), (200, (400, 600))])
def test_the_preview_stands_upright(monkeypatch, orientation, at_least, size):
    """By its own EXIF where it has an orientation there, or else by the RAW file's."""
    monkeypatch.setitem(sys.modules, "rawpy", StandIn("jpeg", preview_jpeg((1200, 800), orientation), flip=6))
    image, facts = open_image(FUJIFILM, at_least=at_least)
    assert image.size == size
    assert facts == ImageFacts(4000, 6000, camera="Box")
    top, bottom = image.getpixel((size[0] // 2, 9)), image.getpixel((size[0] // 2, size[1] - 9))
    assert top[0] > 240 and top[1] < 15 and bottom[0] < 15 and bottom[1] > 240


def test_a_preview_of_plain_pixels(monkeypatch):
    data = np.full((500, 700, 3), (10, 20, 30), np.uint8)
    monkeypatch.setitem(sys.modules, "rawpy", StandIn("bitmap", data, flip=0))
    image, facts = open_image(FUJIFILM)
    assert (image.size, image.getpixel((0, 0)), facts) == ((700, 500), (10, 20, 30), ImageFacts(6000, 4000))


def test_a_small_preview_is_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", StandIn("jpeg", preview_jpeg((160, 120)), flip=6))
    image, facts = open_image(FUJIFILM)
    assert (image.size, image.getpixel((0, 0))) == ((2000, 3000), (0, 0, 255))
    assert facts == ImageFacts(4000, 6000)
    assert open_image(FUJIFILM, at_least=100)[0].size == (120, 160)  # enough for this one


def test_headers(sensor, monkeypatch):
    pytest.importorskip("rawpy")
    content = dng(sensor, 6)
    check_header(content)
    with pytest.raises(ImageError, match="damaged or truncated"):
        check_header(content[:60])
    monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.05")
    with pytest.raises(ImageError, match=r"larger than 0.05 megapixels \(200 x 300\)"):
        check_header(content)
