"""Pictures in tables, on a screen of our own that follows the cursor."""

import re
import tarfile

from PIL import Image
from rich.console import Console
from rich.table import Table

from retrieval.show import COLUMNS, MARK, ROWS, draw, draw_all, drawn_over


def table_of(pictures, names):
    table = Table(show_lines=True)
    table.add_column("", width=COLUMNS)
    table.add_column("path")
    for picture, name in zip(pictures, names):
        table.add_row(picture.cell, name)
    console = Console(width=80, force_terminal=True)
    with console.capture() as printed:
        console.print(table)
    return printed.get()


def follow(text):
    """(lines of characters, [(line, column) where each of kitty's pictures is drawn])"""
    lines, drawn, line, column, saved = [""], [], 0, 0, None
    for token in re.findall(r"\x1b_G.*?\x1b\\|\x1b\[[0-9;]*[A-Za-z]|\x1b[78]|\n|[^\x1b\n]+", text, re.DOTALL):
        if token.startswith("\x1b_G"):
            if "a=T" in token:
                drawn.append((line, column))
        elif token == "\x1b7":
            saved = line, column
        elif token == "\x1b8":
            line, column = saved
        elif move := re.fullmatch(r"\x1b\[(\d+)([AC])", token):
            line, column = (line - int(move[1]), column) if move[2] == "A" else (line, column + int(move[1]))
        elif token == "\n":
            line, column = line + 1, 0
            lines += [""] * (line + 1 - len(lines))
        elif not token.startswith("\x1b"):
            assert lines[line] == "", "written over"
            lines[line], column = token, len(token)
    return lines, drawn


def test_each_picture_is_drawn_over_its_own_cells():
    image = Image.new("RGB", (60, 40), (200, 10, 20))
    pictures = [draw(image, "kitty"), draw(image, "kitty")]
    names = ["first\u2028\x85 of two", f"{MARK} in a name that is folded " * 20]  # more lines than a picture has
    lines, drawn = follow(drawn_over(re.sub(r"\x1b\[[0-9;]*m", "", table_of(pictures, names)), pictures))
    tops = [next(number for number, line in enumerate(lines) if name in line) for name in ("first", f"{MARK} in a")]
    assert drawn == [(top, 2) for top in tops]
    for top in tops:  # the cells are blank, and as many as the picture takes
        assert all(line[1 : COLUMNS + 3] == " " * (COLUMNS + 2) for line in lines[top : top + ROWS])


def test_what_cannot_be_read_is_said_in_place(photo_folder):
    there, gone = draw_all([str(photo_folder / "rocket.jpg"), str(photo_folder / "gone.jpg")], "sixel")
    assert there.drawing.startswith("\x1bP0;1q")
    assert gone.drawing == "" and gone.cell.plain == "cannot be read: No such file or directory"


def test_frames_and_members_have_pictures_too(photo_folder, tmp_path, write_video):
    video = write_video(tmp_path / "grey.mp4", [20] * 10 + [230] * 10)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photo_folder / "rocket.jpg", "rocket.jpg")
    dark, light, member = draw_all(
        [f"{video}#t=0.2", f"{video}#t=1.5", f"{tmp_path / 'photos.tar'}#rocket.jpg"], "blocks"
    )
    shade = [picture.cell.spans[0].style.color.triplet.red for picture in (dark, light)]
    assert shade[0] < 50 and shade[1] > 200
    assert member.cell.plain.splitlines() == ["▀" * 20] * 7  # 640 x 427
