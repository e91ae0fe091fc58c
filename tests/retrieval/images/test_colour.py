"""Colour profiles, and pixels of more than 8 bits."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from retrieval.images import open_image


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(content):
    return [tuple(one) for one in np.asarray(open_image(content)[0]).reshape(-1, 3).tolist()]


def swapped_profile():
    """sRGB with the red and the green primary exchanged, so that a conversion cannot be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = profile.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    # "sRGB" in its description, as UTF-16
    return bytes(profile.replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be")))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class TestProfiles:
    @pytest.mark.parametrize(("format", "options"), [
        ("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100}),
    ])
    def test_colours_become_srgb(self, format, options):
        picture = Image.new("RGB", (16, 16), (200, 40, 40))
        content = encoded(picture, format, icc_profile=swapped_profile(), **options)
        np.testing.assert_allclose(pixels(content)[100], (40, 200, 40), atol=5)

    @pytest.mark.parametrize("at_least", [None, 20])
    def test_a_jpeg_decoded_smaller(self, at_least):
        content = encoded(Image.new("RGB", (400, 400), (200, 40, 40)), "JPEG", icc_profile=swapped_profile())
        np.testing.assert_allclose(open_image(content, at_least=at_least)[0].getpixel((9, 9)), (40, 200, 40), atol=5)

    def test_with_alpha_and_with_a_palette(self):
        layer = Image.new("RGBA", (2, 1), (200, 40, 40, 255))
        layer.putpixel((1, 0), (200, 40, 40, 0))
        found = pixels(encoded(layer, icc_profile=swapped_profile()))
        np.testing.assert_allclose(found, [(40, 200, 40), (255, 255, 255)], atol=2)
        palette = Image.new("P", (1, 1))
        palette.putpalette([200, 40, 40])
        np.testing.assert_allclose(pixels(encoded(palette, icc_profile=swapped_profile())), [(40, 200, 40)], atol=2)

    def test_srgb_is_left_to_the_bit(self):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
        np.testing.assert_array_equal(open_image(encoded(noise, icc_profile=SRGB))[0], noise)

    @pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:300], b"\0" * 200])
    def test_a_broken_one_is_ignored(self, profile):
        assert pixels(encoded(Image.new("RGB", (1, 1), (9, 80, 200)), icc_profile=profile)) == [(9, 80, 200)]

    def test_one_for_other_pixels_is_ignored(self):
        assert pixels(encoded(Image.new("L", (1, 1), 80), icc_profile=swapped_profile())) == [(80, 80, 80)]


def png_of_16_bits(values, colour_type):
    """Pillow writes no PNG with 16-bit colours. values: (height, width, channels) uint16."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class TestDepths:
    def test_png_of_16_bits_a_colour(self):
        values = np.array([[[65535, 32896, 0], [257, 514, 771]]], np.uint16)
        assert pixels(png_of_16_bits(values, 2)) == [(255, 128, 0), (1, 2, 3)]

    def test_png_of_16_bits_with_alpha(self):
        values = np.array([[[65535, 0, 0, 65535], [65535, 0, 0, 0]]], np.uint16)
        assert pixels(png_of_16_bits(values, 6)) == [(255, 0, 0), (255, 255, 255)]

    def test_png_of_16_bit_grey_with_alpha(self):
        values = np.array([[[32896, 65535], [32896, 0]]], np.uint16)
        assert pixels(png_of_16_bits(values, 4)) == [(128,) * 3, (255,) * 3]

    def test_big_endian_tiff(self):
        grey = Image.frombytes("I;16B", (3, 1), bytes([0x80, 0, 0xFF, 0xFF, 0, 0]))
        assert pixels(encoded(grey, "TIFF")) == [(128,) * 3, (255,) * 3, (0,) * 3]

    @pytest.mark.parametrize(("values", "levels"), [
        ([0.0, 0.5, 1.0], [0, 128, 255]),                    # shares of one
        ([0.0, 100.0, 255.0], [0, 100, 255]),                # 8-bit values
        ([-100.0, 0.0, 100.0], [0, 128, 255]),               # whatever: from lowest to highest
        ([np.nan, 0.0, 500.0, 1000.0, np.inf], [0, 0, 128, 255, 255]),
        ([7e5, 7e5], [0, 0]),
    ])
    def test_floats_are_scaled(self, values, levels):
        found = pixels(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))
        assert found == [(level,) * 3 for level in levels]

    def test_integers_of_32_bits_are_scaled(self):
        values = np.array([[0, 100_000, 200_000]], np.int32)
        assert pixels(encoded(Image.fromarray(values), "TIFF")) == [(0,) * 3, (128,) * 3, (255,) * 3]

    def test_lab(self):
        lab = Image.new("LAB", (1, 1), (255, 128, 128))
        np.testing.assert_allclose(pixels(encoded(lab, "TIFF")), [(255, 255, 255)], atol=2)


@pytest.mark.parametrize("marked", [True, False])
def test_cmyk_jpegs_hold_inverted_inks(marked):
    """Adobe's say so in a segment of their own. Browsers take others alike; so do we."""
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    if not marked:
        content = without_adobe_marker(content)
    assert (b"Adobe" in content) == marked
    np.testing.assert_allclose(pixels(content)[0], (255, 0, 0), atol=3)


def without_adobe_marker(content):
    start = content.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", content, start + 2)
    return content[:start] + content[start + 2 + length :]
