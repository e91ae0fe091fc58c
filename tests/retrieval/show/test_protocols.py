"""What is sent to terminals, read back as they read it."""

import base64
import io
import re

import pytest
from PIL import Image

from retrieval.show.protocols import iterm2, kitty, sixel


def picture(width, height):
    """Four colours, one in each quarter."""
    image = Image.new("RGB", (width, height), (200, 30, 40))
    image.paste((20, 160, 60), (width // 2, 0, width, height // 2))
    image.paste((30, 60, 220), (0, height // 2, width // 2, height))
    image.paste((250, 250, 250), (width // 2, height // 2, width, height))
    return image


def noise(width, height):
    return Image.effect_noise((width, height), 80).convert("RGB")


def read_sixel(text):
    """The picture of a Sixel string: pixels that were never set are None."""
    found = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    width, height = int(found[1]), int(found[2])
    pixels = [[None] * width for _ in range(height)]
    colours, colour, x, top = {}, None, 0, 0
    tokens = re.findall(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])", found[3])
    assert "".join(re.split(r"#\d+(?:;2;\d+;\d+;\d+)?|!\d+[?-~]|[?-~]|[$-]", found[3])) == ""
    for name, red, green, blue, count, repeated, single, move in tokens:
        if red:
            colours[name] = tuple(int(value) / 100 * 255 for value in (red, green, blue))
        elif name:
            colour = colours[name]
        elif move == "$":
            x = 0
        elif move == "-":
            x, top = 0, top + 6
        else:
            for _ in range(int(count or 1)):
                for bit in range(6):
                    if (ord(repeated or single) - 63) >> bit & 1:
                        assert pixels[top + bit][x] is None, "drawn twice"
                        pixels[top + bit][x] = colour
                x += 1
    return pixels


@pytest.mark.parametrize("size", [(40, 30), (31, 47), (5, 1), (1, 13)])
def test_sixel_draws_every_pixel_in_its_colour(size):
    image = picture(*size)
    pixels = read_sixel(sixel(image, 20, 7, (10, 20)))
    assert (len(pixels[0]), len(pixels)) == size
    for y, row in enumerate(pixels):
        for x, colour in enumerate(row):
            assert colour == pytest.approx(image.getpixel((x, y)), abs=1.5), (x, y)  # percents of 255


def test_sixel_is_no_larger_than_its_cells():
    pixels = read_sixel(sixel(picture(1000, 500), 20, 7, (8, 16)))
    assert (len(pixels[0]), len(pixels)) == (160, 80)
    assert None not in {colour for row in read_sixel(sixel(noise(300, 300), 20, 7, (10, 20))) for colour in row}


def read_kitty(text):
    """(keys of the first command, the PNG)"""
    commands = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{content}\x1b\\" for keys, content in commands) == text
    keys = [dict(pair.split("=") for pair in one.split(",")) for one, _ in commands]
    assert [one["m"] for one in keys] == ["1"] * (len(keys) - 1) + ["0"]
    assert all(set(one) == {"m"} for one in keys[1:])
    assert all(len(content) <= 4096 and len(content) % 4 == 0 for _, content in commands)
    png = base64.b64decode("".join(content for _, content in commands), validate=True)
    return keys[0], Image.open(io.BytesIO(png))


def test_kitty_gets_a_png_in_chunks():
    image = noise(200, 200)
    keys, read = read_kitty(kitty(image, 20, 7))
    assert read.format == "PNG" and read.tobytes() == image.tobytes()
    assert keys == {"a": "T", "f": "100", "q": "2", "C": "1", "r": "7", "m": "1"}
    assert read_kitty(kitty(picture(4, 4), 20, 7))[0]["m"] == "0"


@pytest.mark.parametrize(("size", "limit"), [((300, 100), ("c", "20")), ((100, 100), ("r", "7")), ((100, 300), ("r", "7"))])
def test_kitty_keeps_the_shape_within_the_cells(size, limit):
    keys, _ = read_kitty(kitty(picture(*size), 20, 7))
    assert {key: keys[key] for key in ("c", "r") if key in keys} == dict([limit])


def test_iterm2_gets_a_png():
    image = picture(50, 20)
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07", iterm2(image, 20, 7))
    content = base64.b64decode(found[2], validate=True)
    assert dict(pair.split("=") for pair in found[1].split(";")) == {
        "inline": "1", "size": str(len(content)), "width": "20", "height": "7", "preserveAspectRatio": "1",
    }
    assert Image.open(io.BytesIO(content)).tobytes() == image.tobytes()
