"""Frames of animations and pages of files, each as an image file of its own."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from retrieval.errors import ImageError
from retrieval.images.colour import to_srgb
from retrieval.images.formats import identify_open
from retrieval.images.limits import megapixels_of_environment, refuse_bombs

# What may hold several frames or pages.
ANIMATED_SUFFIXES = frozenset(".gif .webp .png .apng .avif .tif .tiff".split())


def count_frames(path: Path) -> int:
    """How many frames the file has; 1 if it cannot be read, so that reading it tells why.

    Their pixels are not decoded.
    """
    try:
        with path.open("rb") as file:
            return getattr(identify_open(file), "n_frames", 1)
    except Exception:  # damaged files surface from the decoders as almost anything
        return 1


def animation_frame(content: bytes, number: int) -> bytes:
    """The frame as it is shown, composed with those before it; the first one is 0.

    Raises ImageError.
    """
    try:
        image = identify_open(io.BytesIO(content))
        refuse_bombs(image.size, megapixels_of_environment())
        image.seek(number)
        refuse_bombs(image.size, megapixels_of_environment())  # pages have sizes of their own
        image.load()
        exif = image.getexif()
        upright = to_srgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except EOFError as error:
        raise ImageError(f"there is no frame {number}") from error
    except Exception as error:  # as above
        raise ImageError(f"damaged or truncated ({error})") from error
    return as_file(upright, _of_the_picture(exif))


def as_file(image: Image.Image, exif: Image.Exif) -> bytes:
    """An RGB image as the bytes of a file; the same bytes for the same pixels and EXIF.

    Of the formats that cost no time, TIFF is the one that keeps a date and a place.
    """
    buffer = io.BytesIO()
    image.info.clear()  # its colours are sRGB by now, whatever profile it came with
    image.save(buffer, "TIFF", exif=exif.tobytes())  # Pillow keeps the inner parts of bytes alone
    return buffer.getvalue()


def _of_the_picture(exif: Image.Exif) -> Image.Exif:
    """Date, camera and place, without what describes how the pixels were kept."""
    kept = Image.Exif()
    for tag in (ExifTags.Base.Make, ExifTags.Base.Model):
        if tag in exif:
            kept[tag] = exif[tag]
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inner := exif.get_ifd(part):
            kept.get_ifd(part).update(inner)
    return kept
