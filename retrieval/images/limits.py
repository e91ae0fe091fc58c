"""How large a picture may be."""

from __future__ import annotations

import os

from retrieval.errors import ImageError

# Guards against decompression bombs. Pillow's own limit (89) would refuse real panoramas.
MAX_MEGAPIXELS = 500
MEGAPIXELS_VARIABLE = "RETRIEVAL_MAX_MEGAPIXELS"


def refuse_bombs(size: tuple[int, int], limit: float) -> None:
    """Raises ImageError for more megapixels than the limit."""
    width, height = size
    if width * height > limit * 1_000_000:
        raise ImageError(
            f"larger than {limit:g} megapixels ({width} x {height}); to read it, set {MEGAPIXELS_VARIABLE}"
        )


def megapixels_of_environment() -> float:
    """Of RETRIEVAL_MAX_MEGAPIXELS, else 500. Raises ImageError for what is no number."""
    written = os.environ.get(MEGAPIXELS_VARIABLE)
    if not written:
        return MAX_MEGAPIXELS
    try:
        limit = float(written)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise ImageError(f"{MEGAPIXELS_VARIABLE} is {written!r}; set it to a number such as {MAX_MEGAPIXELS}")
    return limit
