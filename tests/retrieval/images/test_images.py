import io
import struct
import zlib
from datetime import datetime

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from retrieval import images
from retrieval.errors import ImageError
from retrieval.images import ImageFacts, check_header, open_image, thumbnail

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
# How a camera stores an upright picture under each EXIF orientation.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quadrants(width=60, height=40):
    """Red, green above blue, yellow: no flip or turn leaves it as it is."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def corners(image):
    """The middle of each quadrant, row by row."""
    w, h = image.size
    return [image.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def jpeg_with(exif, **options):
    return encoded(quadrants(), "JPEG", exif=exif, **options)


def assert_close(found, expected, tolerance=6):
    np.testing.assert_allclose(found, expected, atol=tolerance)


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    def test_every_orientation_ends_upright(self, orientation):
        stored = quadrants()
        if STORED[orientation] is not None:
            stored = stored.transpose(STORED[orientation])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image, facts = open_image(encoded(stored, "JPEG", exif=exif, quality=95))
        assert image.size == (60, 40) == (facts.width, facts.height)
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW])

    def test_an_unknown_orientation_is_left_alone(self):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 99
        image, _ = open_image(jpeg_with(exif, quality=95))
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW])


class TestModes:
    def test_alpha_is_laid_over_white(self):
        layer = Image.new("RGBA", (3, 1))
        layer.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 255, 128)])
        image, _ = open_image(encoded(layer))
        assert image.mode == "RGB"
        assert [image.getpixel((x, 0)) for x in range(3)] == [RED, (255, 255, 255), (127, 127, 255)]

    def test_grey_with_alpha(self):
        layer = Image.new("LA", (2, 1))
        layer.putdata([(40, 255), (40, 0)])
        image, _ = open_image(encoded(layer))
        assert [image.getpixel((x, 0)) for x in range(2)] == [(40,) * 3, (255,) * 3]

    @pytest.mark.parametrize("format", ["PNG", "GIF"])
    def test_a_palette_with_a_transparent_colour(self, format):
        layer = Image.new("P", (2, 1))
        layer.putpalette([*RED, *BLUE])
        layer.putdata([0, 1])
        image, _ = open_image(encoded(layer, format, transparency=1))
        assert [image.getpixel((x, 0)) for x in range(2)] == [RED, (255, 255, 255)]

    def test_a_palette_without_transparency(self):
        image, _ = open_image(encoded(quadrants().convert("P", palette=Image.Palette.ADAPTIVE)))
        assert corners(image) == [RED, GREEN, BLUE, YELLOW]

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
    def test_16_bit_grey_is_scaled_not_clipped(self, format):
        values = np.array([[0, 255, 256, 100 * 256, 32768, 65535]], np.uint16)
        image, _ = open_image(encoded(Image.fromarray(values), format))
        assert [image.getpixel((x, 0)) for x in range(6)] == [
            (level,) * 3 for level in (0, 0, 1, 100, 128, 255)
        ]

    def test_grey(self):
        image, _ = open_image(encoded(Image.new("L", (2, 2), 77), "JPEG"))
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (77, 77, 77))

    def test_cmyk_jpeg(self):
        image, _ = open_image(encoded(quadrants().convert("CMYK"), "JPEG", quality=95))
        assert image.mode == "RGB"
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW], tolerance=10)

    def test_black_and_white(self):
        picture = Image.new("1", (2, 1))
        picture.putpixel((1, 0), 1)
        image, _ = open_image(encoded(picture))
        assert [image.getpixel((x, 0)) for x in range(2)] == [(0, 0, 0), (255, 255, 255)]

    def test_an_animation_gives_its_first_frame(self):
        frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
        image, _ = open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
        assert image.getpixel((0, 0)) == RED


class TestFacts:
    @pytest.mark.parametrize(
        ("sides", "lat", "lon"),
        [
            (("N", "E"), 48.8583, 2.2945),
            (("S", "W"), -48.8583, -2.2945),
            (("N", "W"), 48.8583, -2.2945),
            (("S", "E"), -48.8583, 2.2945),
        ],
    )
    def test_date_camera_and_place(self, sides, lat, lon):
        exif = Image.Exif()
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS 5D\0"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2019:07:14 21:05:09"
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({
            ExifTags.GPS.GPSLatitudeRef: sides[0], ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.88),
            ExifTags.GPS.GPSLongitudeRef: sides[1], ExifTags.GPS.GPSLongitude: (2.0, 17.0, 40.2),
        })
        _, facts = open_image(jpeg_with(exif))
        assert facts == ImageFacts(60, 40, "2019-07-14T21:05:09", "Canon EOS 5D", lat, lon)
        assert datetime.fromisoformat(facts.taken_at).minute == 5

    @pytest.mark.parametrize("written", ["0000:00:00 00:00:00", "yesterday", "    :  :     :  :  ", ""])
    def test_a_garbage_date_is_none(self, written):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = written
        exif[ExifTags.Base.Model] = "Box"
        assert open_image(jpeg_with(exif))[1] == ImageFacts(60, 40, camera="Box")

    @pytest.mark.parametrize(
        "place",
        [
            {ExifTags.GPS.GPSLatitude: (1.0, 2.0, 3.0), ExifTags.GPS.GPSLongitude: (1.0, 2.0, 3.0)},
            {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (1.0, 2.0, 3.0)},
            {
                ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (IFDRational(0, 0),) * 3,
                ExifTags.GPS.GPSLongitudeRef: "E", ExifTags.GPS.GPSLongitude: (1.0, 2.0, 3.0),
            },
        ],
        ids=["no side", "half a place", "no fix, written as 0/0"],
    )
    def test_a_place_that_means_nothing_is_none(self, place):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(place)
        assert open_image(jpeg_with(exif))[1] == ImageFacts(60, 40)

    def test_a_blank_camera_is_none(self):
        exif = Image.Exif()
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "  ", "\0\0"
        assert open_image(jpeg_with(exif))[1].camera is None

    def test_a_picture_without_exif(self):
        assert open_image(encoded(quadrants()))[1] == ImageFacts(60, 40)

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as the command line asks for
    @pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF at all", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
    def test_damaged_exif_does_not_cost_the_picture(self, exif):
        image, facts = open_image(jpeg_with(exif, quality=95))
        assert facts == ImageFacts(60, 40)
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW])


def png_header(width, height):
    """A PNG that says it is this large and holds no pixels."""
    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestRefusals:
    def refused(self, source):
        with pytest.raises(ImageError) as caught:
            open_image(source)
        return str(caught.value)

    def test_a_truncated_jpeg(self):
        content = encoded(Image.effect_noise((200, 200), 90), "JPEG")
        assert self.refused(content[: len(content) // 2]).startswith("damaged or truncated (")

    def test_a_text_named_jpg(self, tmp_path):
        path = tmp_path / "letter.jpg"
        path.write_text("Dear Sir or Madam")
        assert self.refused(path) == "not an image in a format that can be read"

    def test_no_bytes(self, tmp_path):
        (tmp_path / "empty.jpg").touch()
        assert self.refused(tmp_path / "empty.jpg") == "the file is empty"
        assert self.refused(b"") == "the file is empty"

    def test_a_missing_file_and_a_folder(self, tmp_path):
        assert self.refused(tmp_path / "gone.jpg") == "cannot be read: No such file or directory"
        assert self.refused(tmp_path) == "cannot be read: Is a directory"

    @pytest.mark.parametrize("side", [22_361, 30_000, 60_000])
    def test_a_decompression_bomb(self, side):
        assert side * side > images.MAX_MEGAPIXELS * 1_000_000
        assert self.refused(png_header(side, side)) == (
            f"larger than 500 megapixels ({side} x {side}); to read it, set RETRIEVAL_MAX_MEGAPIXELS"
        )

    def test_the_limit_itself_is_allowed(self, monkeypatch):
        monkeypatch.setattr(images.limits, "MAX_MEGAPIXELS", 0.0024)
        assert open_image(encoded(quadrants(60, 40)))[0].size == (60, 40)
        assert self.refused(encoded(quadrants(61, 40))).startswith("larger than 0.0024 megapixels (61 x 40)")

    def test_the_limit_can_be_set(self, monkeypatch):
        picture = encoded(quadrants(61, 40))
        with pytest.raises(ImageError, match="larger than 0.002 megapixels"):
            open_image(picture, max_megapixels=0.002)
        monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.001")
        assert self.refused(picture).startswith("larger than 0.001 megapixels")
        assert open_image(picture, max_megapixels=1)[0].size == (61, 40)

    @pytest.mark.parametrize("written", ["many", "0", "-5", "nan"])
    def test_a_limit_that_is_no_number(self, monkeypatch, written):
        monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", written)
        assert self.refused(encoded(quadrants())) == (
            f"RETRIEVAL_MAX_MEGAPIXELS is {written!r}; set it to a number such as 500"
        )

    def test_pillows_own_limit_is_left_alone(self):
        """Other code of the same program may rely on it; ours reads what lies above it."""
        assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
        content = encoded(Image.new("1", (15_000, 12_000)))  # 180 megapixels: Image.open raises
        assert open_image(content)[0].size == (15_000, 12_000)


class TestScaledDecoding:
    @pytest.mark.parametrize(("at_least", "size"), [
        (None, (1000, 801)), (200, (500, 401)), (100, (250, 201)), (50, (125, 101)), (3, (125, 101)), (500, (1000, 801)),
    ])
    def test_never_below_twice_what_is_needed(self, at_least, size):
        content = encoded(quadrants(1000, 801), "JPEG", quality=95)
        image, facts = open_image(content, at_least=at_least)
        assert image.size == size
        assert (facts.width, facts.height) == (1000, 801)
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW])

    @pytest.mark.parametrize("orientation", STORED)
    def test_upright_all_the_same(self, orientation):
        stored = quadrants(800, 600)
        if STORED[orientation] is not None:
            stored = stored.transpose(STORED[orientation])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image, facts = open_image(encoded(stored, "JPEG", exif=exif, quality=95), at_least=70)
        assert (image.size, (facts.width, facts.height)) == ((200, 150), (800, 600))
        assert_close(corners(image), [RED, GREEN, BLUE, YELLOW])

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_grey_and_cmyk(self, mode):
        content = encoded(quadrants(800, 600).convert(mode), "JPEG", quality=95)
        image, whole = open_image(content, at_least=70)[0], open_image(content)[0]
        assert (image.mode, image.size) == ("RGB", (200, 150))
        assert_close(corners(image), corners(whole))

    def test_other_formats_come_whole(self):
        assert open_image(encoded(quadrants(800, 600)), at_least=50)[0].size == (800, 600)

    def test_a_truncated_jpeg_is_refused(self):
        content = encoded(Image.effect_noise((800, 800), 90), "JPEG")
        with pytest.raises(ImageError, match="damaged or truncated"):
            open_image(content[: len(content) // 2], at_least=50)


class TestThumbnail:
    def test_size_orientation_and_format(self, tmp_path):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        path = tmp_path / "portrait.jpg"
        stored = quadrants(300, 600).transpose(Image.Transpose.ROTATE_90)
        path.write_bytes(encoded(stored, "JPEG", exif=exif, quality=95))
        small = Image.open(io.BytesIO(thumbnail(path, 100)))
        assert (small.format, small.size) == ("JPEG", (50, 100))
        assert_close(corners(small), [RED, GREEN, BLUE, YELLOW], tolerance=12)

    def test_small_pictures_are_not_blown_up(self, tmp_path):
        path = tmp_path / "small.png"
        path.write_bytes(encoded(quadrants()))
        assert Image.open(io.BytesIO(thumbnail(path, 240))).size == (60, 40)

    def test_an_unreadable_file_is_an_image_error(self, tmp_path):
        with pytest.raises(ImageError, match="No such file"):
            thumbnail(tmp_path / "gone.jpg", 100)


class TestHeaders:
    @pytest.mark.parametrize("content", [b"", b"Dear Sir or Madam", png_header(30_000, 30_000), encoded(quadrants())[:20]])
    def test_what_they_tell_is_what_opening_tells(self, content):
        with pytest.raises(ImageError) as opening:
            open_image(content)
        with pytest.raises(ImageError) as checking:
            check_header(content)
        assert str(checking.value) == str(opening.value)

    def test_pixels_are_not_looked_at(self):
        content = encoded(Image.effect_noise((200, 200), 90), "JPEG")
        check_header(content)
        check_header(content[: len(content) // 2])
        check_header(png_header(200, 200))


def test_postscript_is_not_run(tmp_path):
    """Pillow would hand it to an interpreter, and the file may come from anywhere."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(ImageError, match="not an image in a format that can be read"):
        open_image(path)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM"])
def test_every_format_opens(tmp_path, name):
    path = tmp_path / "picture"
    Image.new("RGB", (20, 10), (250, 10, 10)).save(path, name)
    image, facts = open_image(path)
    assert (facts.width, facts.height, image.mode) == (20, 10, "RGB")
    red, green, blue = image.getpixel((5, 5))
    assert red > 230 and green < 40 and blue < 40
