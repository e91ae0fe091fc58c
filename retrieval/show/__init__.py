"""Pictures on terminals: by a graphics protocol where the terminal has one, in half blocks elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO

from PIL import Image
from rich.cells import cell_len
from rich.text import Text

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.images import shrunk
from retrieval.show.blocks import half_blocks
from retrieval.show.protocols import iterm2, kitty, sixel
from retrieval.show.terminal import Way, cell_pixels, way

__all__ = ["COLUMNS", "MARK", "ROWS", "Picture", "Way", "draw", "draw_all", "drawn_over", "way"]

COLUMNS, ROWS = 20, 7  # cells that a picture fits into
MARK = "\ue000"  # stands at the upper left of the cells that a protocol's picture is drawn over
_BORDER = 2  # characters before a table's first cell
_READ_AT_ONCE = 4
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Picture:
    """cell: what a table shows. drawing: what is written with the cursor at the cell's MARK, if anything."""

    cell: Text
    drawing: str = ""


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


def drawn_over(table: str, pictures: Sequence[Picture]) -> str:
    """A table that was printed to a string with the pictures' cells, with the drawings behind their last lines.

    There the terminal has scrolled as far as it has to: the cursor goes up to the mark, the picture is
    drawn, and the cursor returns.
    """
    drawings = iter([picture.drawing for picture in pictures if picture.drawing])
    written, due = [], {}  # due: what is to follow a line
    for number, line in enumerate(StringIO(table)):  # lines end at "\n" alone, as on a terminal
        before, mark, after = line.partition(MARK)
        left = cell_len(_STYLES.sub("", before))
        if mark and left == _BORDER:  # a file's name may have one as well
            line = f"{before} {after}"
            due[number + ROWS - 1] = f"\x1b7\x1b[{ROWS}A\x1b[{left}C{next(drawings)}\x1b8"
        written += [line, due.pop(number, "")]
    return "".join(written)


def _draw_address(place: str, by: Way) -> Picture:
    width, height = (COLUMNS, 2 * ROWS) if by == "blocks" else (20 * COLUMNS, 40 * ROWS)
    try:
        return draw(shrunk(addresses.read(place), max(width, height)), by)
    except ImageError as error:
        return Picture(Text(str(error), "dim"))
