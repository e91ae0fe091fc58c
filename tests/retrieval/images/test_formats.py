"""What files are taken for, and what is said where a format's library is missing."""

import io
import sys

import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from retrieval.errors import ImageError
from retrieval.images import SUFFIXES, ImageFacts, open_image


def camera_exif(orientation=1):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS 5D"
    exif.get_ifd(ExifTags.IFD.Exif).update({
        ExifTags.Base.DateTimeOriginal: "2019:07:14 21:05:09", ExifTags.Base.OffsetTimeOriginal: "+02:00",
    })
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({
        ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.88),
        ExifTags.GPS.GPSLongitudeRef: "W", ExifTags.GPS.GPSLongitude: (2.0, 17.0, 40.2),
    })
    return exif


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def half_red_half_blue(width=60, height=40):
    image = Image.new("RGB", (width, height), "red")
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


FACTS = ImageFacts(60, 40, "2019-07-14T21:05:09", "Canon EOS 5D", 48.8583, -2.2945)


def assert_upright(content):
    image, facts = open_image(content)
    assert (image.size, facts) == ((60, 40), FACTS)
    (red, _, other), (other_red, _, blue) = image.getpixel((5, 20)), image.getpixel((55, 20))
    assert red > 240 and blue > 240 and other < 15 and other_red < 15


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_facts_and_orientation(format):
    stored = half_red_half_blue().transpose(Image.Transpose.ROTATE_90)
    assert_upright(encoded(stored, format, exif=camera_exif(6)))


def test_facts_and_orientation_of_tiff():
    exif, tags = camera_exif(6), TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (ExifTags.Base.Orientation, ExifTags.Base.Make, ExifTags.Base.Model):
        tags[tag] = exif[tag]
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        tags[tag] = exif.get_ifd(tag)
    stored = half_red_half_blue().transpose(Image.Transpose.ROTATE_90)
    assert_upright(encoded(stored, "TIFF", tiffinfo=tags))


class TestHeic:
    @pytest.fixture
    def heic(self):
        writer = pytest.importorskip("pillow_heif", reason="pi-heif reads HEIC and writes none")
        writer.register_heif_opener()
        stored = half_red_half_blue().transpose(Image.Transpose.ROTATE_90)
        return encoded(stored, "HEIF", exif=camera_exif(6).tobytes(), quality=95)

    def test_facts_and_orientation(self, heic):
        pytest.importorskip("pi_heif")
        assert_upright(heic)

    def test_cut_short(self, heic):
        pytest.importorskip("pi_heif")
        with pytest.raises(ImageError, match="damaged or truncated"):
            open_image(heic[: len(heic) // 2])

    def test_a_missing_library_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        with pytest.raises(ImageError) as caught:
            open_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        assert str(caught.value) == "HEIC needs pi-heif: pip install 'crossmodal-retrieval[heif]'"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    image, _ = open_image(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    red, green, blue = image.getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize(("mode", "colour"), [("1", (255,) * 3), ("L", (255,) * 3), ("RGB", (255, 0, 0))])
def test_portable_maps(mode, colour):
    content = encoded(Image.new(mode, (9, 5), colour[0] if mode != "RGB" else colour), "PPM")
    image, facts = open_image(content)
    assert (image.getpixel((3, 3)), facts.width, facts.height) == (colour, 9, 5)


def test_two_pictures_in_one_jpeg():
    """As phones write: the photo first, a depth or gain map behind it."""
    frames = [half_red_half_blue(600, 400), Image.new("RGB", (60, 40))]
    content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert open_image(content)[0].size == (600, 400)
    image, facts = open_image(content, at_least=50)
    assert (image.size, facts.width, facts.height) == ((150, 100), 600, 400)


def test_what_cannot_be_read_without_an_extra_is_found_all_the_same():
    assert {".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"} <= SUFFIXES
