"""Pixels of any mode and colour profile as 8-bit sRGB."""

from __future__ import annotations

import io
import math
from array import array
from functools import lru_cache

from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """Mode RGB in the sRGB colour space, alpha over white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _in_8_bits(image).convert("RGB")
    if image.mode == "LAB":
        return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _SRGB, "LAB", "RGB").apply(image)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        layer = _from_profile(image.convert("RGBA"), profile)
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGB")
    image = _from_profile(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would be a copy


def _from_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In sRGB where that takes a change of colours, else as it is."""
    transform = _profile_transform(profile, image.mode) if profile else None
    return transform.apply(image) if transform else image


@lru_cache(maxsize=32)  # a camera writes the same profile into all its pictures
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None for sRGB itself, and for a profile that is broken or not for such pixels."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if (opened.profile.profile_description or "").startswith("sRGB"):
            return None
        return ImageCms.buildTransform(opened, _SRGB, mode, "RGBA" if mode == "RGBA" else "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats, as L; `convert` would clip it to white."""
    if image.mode != "F":
        image = image.convert("I")
    low, high = _range(image)
    if image.mode == "I" and 0 <= low and high <= 65535:
        return image.point(lambda value: value / 256).convert("L")
    if image.mode == "F" and 0 <= low and high <= 255:  # shares of one, or 8-bit values
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    scale = 255 / (high - low) if high > low else 0.0
    image = image.convert("F")
    return image.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")


def _range(image: Image.Image) -> tuple[float, float]:
    """Lowest and highest finite value."""
    low, high = image.getextrema()
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = [value for value in array("f", image.tobytes()) if math.isfinite(value)]
    return min(finite, default=0.0), max(finite, default=0.0)
