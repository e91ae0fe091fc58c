"""Camera RAW files: the preview that the camera put in, or else a render at half size."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

from PIL import ExifTags, Image, TiffImagePlugin

from retrieval.errors import ImageError
from retrieval.images.formats import identify

# A preview with a shorter side below this (pixels) is a thumbnail, and rendering is worth its time.
USEFUL = 448
_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # Fujifilm, Olympus, Panasonic
_TIFF_HEADERS = (b"II*\0", b"MM\0*")
_RAW_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}  # Sony, Samsung, Nikon, Kodak, Pentax
_DNG_VERSION, _COLOUR_FILTER_ARRAY = 50706, 32803
# libraw's flip: how to turn the sensor's picture
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}


def is_raw(content: bytes) -> bool:
    """Most RAW files are TIFF by their first bytes; what they hold tells them apart."""
    if content.startswith(_MAGIC) or content[4:12] == b"ftypcrx ":
        return True
    if not content.startswith(_TIFF_HEADERS):
        return False
    if content[8:10] == b"CR":  # Canon
        return True
    try:
        first = _first_directory(content)
    except Exception:  # not to be opened as anything; the reason comes from there
        return False
    tags = ExifTags.Base
    return (
        _DNG_VERSION in first
        or first.get(tags.Compression) in _RAW_COMPRESSIONS
        or first.get(tags.PhotometricInterpretation) == _COLOUR_FILTER_ARRAY
        # Nikon, Sony and Samsung put a small picture first, and the large ones below it
        or bool(first.get(tags.NewSubfileType) == 1 and tags.SubIFDs in first and tags.Make in first)
    )


@contextmanager
def opened(content: bytes) -> Iterator[Any]:
    """A rawpy.RawPy. Raises ImageError where rawpy is missing."""
    try:
        import rawpy
    except ImportError as error:
        raise ImageError("camera RAW needs rawpy: pip install 'crossmodal-retrieval[raw]'") from error
    with rawpy.imread(io.BytesIO(content)) as camera:
        yield camera


def upright_size(camera: Any) -> tuple[int, int]:
    """(width, height) in pixels."""
    size = camera.sizes.width, camera.sizes.height
    return size[::-1] if camera.sizes.flip in (5, 6) else size


def read_exif(content: bytes) -> Image.Exif | None:
    """Of RAW files that are TIFF inside; others have it in their preview alone."""
    if not content.startswith(_TIFF_HEADERS):
        return None
    exif = Image.Exif()
    exif.load_from_fp(io.BytesIO(content))
    return exif


@dataclass(frozen=True)
class Preview:
    """An image file within the RAW file."""

    content: bytes
    knows_its_orientation: bool


def preview(camera: Any) -> Preview | None:
    import rawpy

    try:
        found = camera.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None
    if found.format != rawpy.ThumbFormat.JPEG:
        return Preview(_as_file(Image.fromarray(found.data)), False)
    return Preview(found.data, ExifTags.Base.Orientation in identify(found.data).getexif())


def turned_upright(image: Image.Image, camera: Any) -> Image.Image:
    turn = _TURNS.get(camera.sizes.flip)
    return image if turn is None else image.transpose(turn)


def render(camera: Any) -> Image.Image:
    """Half the sensor's size: one pixel for each 2 x 2 of its colour filters; upright."""
    return Image.fromarray(camera.postprocess(half_size=True, use_camera_wb=True, output_bps=8))


def _as_file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PPM")
    return buffer.getvalue()


def _first_directory(content: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    file = io.BytesIO(content)
    directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(directory.next)
    directory.load(file)
    return directory
