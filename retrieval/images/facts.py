"""What a picture says of itself: EXIF date, camera and place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from PIL import ExifTags, Image


@dataclass(frozen=True)
class ImageFacts:
    """What a picture says of itself. Sizes are in pixels, upright; GPS is in degrees."""

    width: int
    height: int
    taken_at: str | None = None  # ISO 8601, local time as the camera wrote it
    camera: str | None = None
    lat: float | None = None
    lon: float | None = None

    def of_size(self, size: tuple[int, int]) -> ImageFacts:
        return replace(self, width=size[0], height=size[1])


def read_facts(exif: Image.Exif, size: tuple[int, int]) -> ImageFacts:
    """size: (width, height) of the upright picture. What is missing or garbled is None."""
    camera = " ".join(
        str(exif[tag]).strip("\0 ") for tag in (ExifTags.Base.Make, ExifTags.Base.Model) if tag in exif
    )
    lat, lon = _position(exif)
    return ImageFacts(*size, taken_at=_taken_at(exif), camera=camera.strip() or None, lat=lat, lon=lon)


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
