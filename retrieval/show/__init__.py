"""Pictures on terminals: by a graphics protocol where the terminal has one, in half blocks elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image
from rich.text import Text

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.images import shrunk
from retrieval.show.blocks import half_blocks
from retrieval.show.protocols import iterm2, kitty, sixel
from retrieval.show.terminal import Way, cell_pixels, way

__all__ = ["COLUMNS", "ROWS", "MARK", "Way", "Picture", "draw", "draw_all", "way"]

COLUMNS, ROWS = 20, 7  # cells that a picture fits into
MARK = "\ue000"  # stands at the upper left of the cells that a protocol's picture is drawn over
_READ_AT_ONCE = 4


@dataclass(frozen=True)
class Picture:
    """cell: what a table shows. drawing: what is written with the cursor at MARK, if anything."""

    cell: Text
    drawing: str = ""

    @property
    def over_the_lines_above(self) -> str:
        """The drawing, written at the beginning of the line below the picture's cells.

        By then the terminal has scrolled as far as it has to, so up is where the cells are. The
        cursor ends where it was.
        """
        left = 2  # the table's border, and a blank
        return f"\x1b7\x1b[{ROWS}A\x1b[{left}C{self.drawing}\x1b8"


def draw_all(places: Sequence[str], by: Way) -> list[Picture]:
    """The images at these addresses; where one cannot be read, the reason."""
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        return list(threads.map(lambda place: _draw_address(place, by), places))


def draw(image: Image.Image, by: Way) -> Picture:
    """An RGB image within COLUMNS x ROWS cells."""
    if by == "blocks":
        return Picture(half_blocks(image, COLUMNS, ROWS))
    blank = Text("\n".join([MARK.ljust(COLUMNS), *[" " * COLUMNS] * (ROWS - 1)]))
    if by == "sixel":
        return Picture(blank, sixel(image, COLUMNS, ROWS, cell_pixels()))
    return Picture(blank, {"kitty": kitty, "iterm2": iterm2}[by](image, COLUMNS, ROWS))


def _draw_address(place: str, by: Way) -> Picture:
    width, height = (COLUMNS, 2 * ROWS) if by == "blocks" else (20 * COLUMNS, 40 * ROWS)
    try:
        return draw(shrunk(addresses.read(place), max(width, height)), by)
    except ImageError as error:
        return Picture(Text(str(error), "dim"))
