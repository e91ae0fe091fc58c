"""The three ways in which terminals take pictures. Each draws from the cursor on, to the right and down.

    kitty   https://sw.kovidgoyal.net/kitty/graphics-protocol/
    iterm2  https://iterm2.com/documentation-images.html
    sixel   DEC STD 070, chapter 9: six pixels, one above the other, are one character
"""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

_CHUNK = 4096  # characters of base64 in one of kitty's commands, at most
_COLOURS = 255
_RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)


def kitty(image: Image.Image, columns: int, rows: int) -> str:
    """A PNG in chunks. It keeps its shape: one of columns and rows is given, the terminal finds the other."""
    wide = image.width * 2 * rows > image.height * columns  # characters are about twice as high as wide
    size = f"c={columns}" if wide else f"r={rows}"
    content = base64.standard_b64encode(_png(image)).decode()
    chunks = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
    # a=T shows at once, f=100 is PNG, q=2 wants no answer, C=1 leaves the cursor
    keys = [f"a=T,f=100,q=2,C=1,{size},", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{key}m={one};{chunk}\x1b\\" for key, one, chunk in zip(keys, more, chunks))


def iterm2(image: Image.Image, columns: int, rows: int) -> str:
    """A PNG; the terminal keeps its shape within columns x rows."""
    content = _png(image)
    about = f"inline=1;size={len(content)};width={columns};height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={about}:{base64.standard_b64encode(content).decode()}\x07"


def sixel(image: Image.Image, columns: int, rows: int, cell: tuple[int, int]) -> str:
    """Pixels in at most 255 colours. cell: width and height of a character in pixels."""
    image = image.copy()
    image.thumbnail((columns * cell[0], rows * cell[1]))
    image = image.quantize(_COLOURS)
    palette = image.getpalette() or []
    content = image.tobytes()
    parts = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    for colour in sorted(set(content)):
        red, green, blue = (round(100 * value / 255) for value in palette[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;{red};{green};{blue}")
    for top in range(0, image.height, 6):
        parts.append("$".join(_band(content[top * image.width : (top + 6) * image.width], image.width)) + "-")
    return "".join(parts) + "\x1b\\"


def _band(content: bytes, width: int) -> list[str]:
    """Up to six rows of pixels, colour after colour: bit i of a character minus 63 is row i."""
    rows = {colour: bytearray(b"?" * width) for colour in sorted(set(content))}
    for place, colour in enumerate(content):
        rows[colour][place % width] += 1 << place // width
    return [f"#{colour}{_run_lengths(bytes(row))}" for colour, row in rows.items()]


def _run_lengths(row: bytes) -> str:
    return _RUN.sub(lambda run: b"!%d%b" % (len(run[0]), run[1]), row).decode()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=None)  # it is sRGB already
    return buffer.getvalue()
