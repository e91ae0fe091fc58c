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
    (width, height), content = image.size, image.tobytes()

    def colour(x: int, y: int) -> Color | None:
        start = 3 * (y * width + x)
        return Color.from_rgb(*content[start : start + 3]) if y < height else None

    lines = []
    for top in range(0, height, 2):
        line = Text()
        for x in range(width):
            line.append(UPPER_HALF, Style(color=colour(x, top), bgcolor=colour(x, top + 1)))
        lines.append(line)
    return Text("\n").join(lines)
