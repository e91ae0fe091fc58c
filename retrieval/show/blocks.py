"""Two pixels a character: the upper half block in the colour of one, on the colour of the other."""

from __future__ import annotations

from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

UPPER_HALF = "▀"


def half_blocks(image: Image.Image, columns: int, rows: int) -> Text:
    """An RGB image within columns x rows characters, which are about twice as high as wide.

    rich writes the colours in as many as the terminal has.
    """
    image = image.copy()
    image.thumbnail((columns, 2 * rows))
    width, height = image.size
    lines = []
    for top in range(0, height, 2):
        line = Text()
        for x in range(width):
            below = image.getpixel((x, top + 1)) if top + 1 < height else None
            line.append(UPPER_HALF, Style(color=_colour(image.getpixel((x, top))), bgcolor=below and _colour(below)))
        lines.append(line)
    return Text("\n").join(lines)


def _colour(pixel: tuple[int, int, int]) -> Color:
    return Color.from_rgb(*pixel)
