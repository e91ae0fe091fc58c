import io
import re

import pytest
from PIL import Image
from rich.console import Console

from retrieval.show.blocks import half_blocks


def printed(text, colours):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=colours, width=80, no_color=False)
    console.print(text)
    return console.file.getvalue()


def read(line):
    """(colour above, colour below) of each character, as the terminal has them."""
    cells, above, below = [], None, None
    for codes, character in re.findall(r"\x1b\[([0-9;]*)m|(.)", line):
        if character:
            assert character == "▀"
            cells.append((above, below))
        elif codes in ("", "0"):
            above = below = None
        else:
            for layer, red, green, blue in re.findall(r"([34]8);2;(\d+);(\d+);(\d+)", codes):
                colour = int(red), int(green), int(blue)
                above, below = (colour, below) if layer == "38" else (above, colour)
    return cells


def test_two_pixels_a_character():
    image = Image.new("RGB", (3, 3))
    colours = [(10 * x + 1, 50 * y + 2, 30 * x + 3) for y in range(3) for x in range(3)]
    image.putdata(colours)
    lines = printed(half_blocks(image, 20, 7), "truecolor").splitlines()
    assert [read(line) for line in lines] == [
        [(colours[x], colours[3 + x]) for x in range(3)],
        [(colours[6 + x], None) for x in range(3)],  # nothing below the last row
    ]


def test_in_256_colours_where_there_are_no_more():
    line = printed(half_blocks(Image.new("RGB", (1, 2), (255, 0, 0)), 20, 7), "256")
    assert line.startswith("\x1b[38;5;196;48;5;196m▀")  # 196 is pure red in the cube of 6 x 6 x 6


@pytest.mark.parametrize(("size", "cells"), [((400, 100), (20, 3)), ((100, 400), (4, 7)), ((280, 280), (14, 7))])
def test_keeps_the_shape_within_the_cells(size, cells):
    lines = half_blocks(Image.new("RGB", size), 20, 7).plain.splitlines()
    assert (len(lines[0]), len(lines)) == cells
