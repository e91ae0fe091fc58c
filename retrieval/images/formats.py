"""What a file is, by its first bytes; its name proves nothing."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image

from retrieval.errors import ImageError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .avif .bmp .gif .tif .tiff .jp2 .j2k .ppm .pgm .pbm .pnm "
    ".heic .heif .hif "
    ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw".split()
)
# What Pillow may take a file for. Not PostScript: opening that runs an interpreter.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "JPEG2000", "PPM")
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())


def identify(content: bytes) -> Image.Image:
    """The image, its header read and its pixels not yet. Raises ImageError.

    Not `Image.open`: that holds images against a limit of size that all of a program shares.
    """
    return identify_open(io.BytesIO(content))


def identify_open(file: BinaryIO) -> Image.Image:
    """`identify`, of an open file: most formats read no more of it than they need."""
    Image.init()
    start = file.read(16)
    missing = None
    for name in _FORMATS:
        plugin, accepts = Image.OPEN[name]
        accepted = accepts(start)
        if isinstance(accepted, str):  # Pillow was built without this format's library
            missing = accepted
        elif accepted:
            file.seek(0)
            try:
                return plugin(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # it only begins like this format
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        file.seek(0)
        return _heif(file)
    raise ImageError(missing or "not an image in a format that can be read")


def _heif(file: BinaryIO) -> Image.Image:
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise ImageError("HEIC needs pi-heif: pip install 'crossmodal-retrieval[heif]'") from error
    try:
        return HeifImageFile(file)
    except SyntaxError as error:
        raise ImageError(f"damaged or truncated ({error})") from error
