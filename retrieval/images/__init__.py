"""Opening images: upright, sRGB, and with a reason in words when it cannot be done."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from retrieval.errors import ImageError
from retrieval.images import raw
from retrieval.images.colour import to_srgb
from retrieval.images.facts import ImageFacts, read_facts
from retrieval.images.formats import SUFFIXES, identify
from retrieval.images.limits import MAX_MEGAPIXELS, megapixels_of_environment, refuse_bombs
from retrieval.images.video import VIDEO_SUFFIXES

__all__ = ["MAX_MEGAPIXELS", "SUFFIXES", "VIDEO_SUFFIXES", "ImageFacts", "check_header", "open_image", "shrunk", "thumbnail"]

# A JPEG scaled by its decoder is a little softer than one resized from all its pixels; from
# twice the size that was asked for, encoders no longer tell the two apart.
_SPARE = 2
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def open_image(
    source: Path | bytes, *, at_least: int | None = None, max_megapixels: float | None = None
) -> tuple[Image.Image, ImageFacts]:
    """Decode an image upright (EXIF orientation applied) as sRGB, alpha over white.

    at_least        pixels that the shorter side is going to be resized to: the picture may then
                    come smaller than it is, never less than twice that; None decodes it in full
    max_megapixels  None: of the environment's RETRIEVAL_MAX_MEGAPIXELS, else 500

    The facts' width and height are always those of the whole picture. Raises ImageError with the
    reason.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise ImageError("the file is empty")
    limit = megapixels_of_environment() if max_megapixels is None else max_megapixels
    with _in_words():
        if raw.is_raw(content):
            return _open_raw(content, at_least, limit)
        return _open(content, at_least, limit)


def check_header(content: bytes) -> None:
    """Raises ImageError where `open_image` would before it comes to the pixels, which take nearly all of its time."""
    if not content:
        raise ImageError("the file is empty")
    limit = megapixels_of_environment()
    with _in_words():
        if raw.is_raw(content):
            with raw.opened(content) as camera:
                refuse_bombs(raw.upright_size(camera), limit)
        else:
            refuse_bombs(identify(content).size, limit)


def thumbnail(source: Path | bytes, longest_side: int) -> bytes:
    """A JPEG of the image, no side longer than `longest_side` pixels.

    Raises ImageError.
    """
    buffer = io.BytesIO()
    shrunk(source, longest_side).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def shrunk(source: Path | bytes, longest_side: int) -> Image.Image:
    """The image, no side longer than `longest_side` pixels. Raises ImageError."""
    image, _ = open_image(source, at_least=longest_side)
    image.thumbnail((longest_side, longest_side))
    return image


@contextmanager
def _in_words() -> Iterator[None]:
    """Raises ImageError for whatever is raised: damaged files surface from the decoders as almost anything."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"damaged or truncated ({error})") from error


def _open(content: bytes, at_least: int | None, limit: float) -> tuple[Image.Image, ImageFacts]:
    image = identify(content)
    refuse_bombs(image.size, limit)
    whole = image.size
    if at_least is not None:
        image.draft(None, (_SPARE * at_least,) * 2)  # of formats but JPEG it changes nothing
    drafted = image.size != whole
    image.load()
    if not drafted:
        whole = image.size  # TIFF turns itself upright while loading
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _TURNED:
        whole = whole[::-1]
    # It copies what is upright already; of JPEGs alone it is certain that there is but one frame, and it is read.
    if orientation != 1 or image.format != "JPEG":
        image = ImageOps.exif_transpose(image)
    return to_srgb(image), read_facts(exif, whole)


def _open_raw(content: bytes, at_least: int | None, limit: float) -> tuple[Image.Image, ImageFacts]:
    with raw.opened(content) as camera:
        whole = raw.upright_size(camera)
        refuse_bombs(whole, limit)
        exif = raw.read_exif(content)
        preview = raw.preview(camera)
        if preview is not None:
            image, facts = _open(preview.content, at_least, limit)
            if not preview.knows_its_orientation:
                image = raw.turned_upright(image, camera)
            if min(facts.width, facts.height) >= min(at_least or raw.USEFUL, raw.USEFUL):
                return image, read_facts(exif, whole) if exif else facts.of_size(whole)
        return raw.render(camera), read_facts(exif or Image.Exif(), whole)
