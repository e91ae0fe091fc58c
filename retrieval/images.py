"""Opening images: upright, RGB, and with a reason in words when it cannot be done."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from retrieval.errors import ImageError

# What Pillow may take a file for. Not PostScript: opening that runs an interpreter.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "JPEG2000", "PPM")
# Guards against decompression bombs. Pillow's own limit (89) would refuse real panoramas.
MAX_MEGAPIXELS = 500
Image.MAX_IMAGE_PIXELS = MAX_MEGAPIXELS * 1_000_000
# Damaged EXIF and odd chunks make Pillow warn; an image either opens or gets a reason here.
warnings.filterwarnings("ignore", module=r"PIL\.")

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .bmp .gif .tif .tiff .jp2 .j2k .ppm .pgm .pnm".split()
)


@dataclass(frozen=True)
class ImageFacts:
    """What a picture says of itself. Sizes are in pixels, upright; GPS is in degrees."""

    width: int
    height: int
    taken_at: str | None = None  # ISO 8601, local time as the camera wrote it
    camera: str | None = None
    lat: float | None = None
    lon: float | None = None


def open_image(source: Path | bytes) -> tuple[Image.Image, ImageFacts]:
    """Decode an image upright (EXIF orientation applied) as RGB, alpha over white.

    Raises ImageError with the reason.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise ImageError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
            raise Image.DecompressionBombError
        image.load()
        exif = image.getexif()
        image = ImageOps.exif_transpose(image)
        return _to_rgb(image), _facts(image, exif)
    except UnidentifiedImageError as error:
        raise ImageError("not an image in a format that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"larger than {MAX_MEGAPIXELS} megapixels") from error
    except Exception as error:  # damaged files surface from the decoders as almost anything
        raise ImageError(f"damaged or truncated ({error})") from error


def thumbnail(path: Path, longest_side: int) -> bytes:
    """A JPEG of the image at `path`, no side longer than `longest_side` pixels.

    Raises ImageError.
    """
    image, _ = open_image(path)
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # convert("RGB") would clip 16-bit values to white; scale them instead.
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _facts(image: Image.Image, exif: Image.Exif) -> ImageFacts:
    camera = " ".join(
        str(exif[tag]).strip("\0 ") for tag in (ExifTags.Base.Make, ExifTags.Base.Model) if tag in exif
    )
    lat, lon = _position(exif)
    return ImageFacts(
        image.width, image.height, taken_at=_taken_at(exif), camera=camera.strip() or None,
        lat=lat, lon=lon,
    )


def _taken_at(exif: Image.Exif) -> str | None:
    written = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    try:
        return datetime.strptime(str(written).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None


def _position(exif: Image.Exif) -> tuple[float | None, float | None]:
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)

    def degrees(value_tag: int, side_tag: int, negative: str) -> float:
        parts = [float(part) for part in gps[value_tag]]
        value = parts[0] + parts[1] / 60 + parts[2] / 3600
        if not math.isfinite(value):  # 0/0, as cameras without a fix write
            raise ValueError
        return round(-value if gps[side_tag] == negative else value, 7)

    try:
        return (
            degrees(ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S"),
            degrees(ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W"),
        )
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError):
        return None, None
