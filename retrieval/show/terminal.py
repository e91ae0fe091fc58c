"""What the terminal can draw, by what it says in the environment: asking it would mean to wait."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

Way = Literal["kitty", "iterm2", "sixel", "blocks"]

# Names in TERM and TERM_PROGRAM, by the manuals of the terminals. WezTerm knows all three and
# advises iTerm2's; others may know Sixel but not say so, as xterm and Windows Terminal.
_BY_TERM: dict[str, Way] = {
    "xterm-kitty": "kitty", "xterm-ghostty": "kitty", "foot": "sixel", "foot-extra": "sixel",
    "mlterm": "sixel", "contour": "sixel", "yaft-256color": "sixel",
}
_BY_PROGRAM: dict[str, Way] = {"ghostty": "kitty", "iTerm.app": "iterm2", "WezTerm": "iterm2", "mintty": "iterm2"}
_CELL = (10, 20)  # pixels, where the terminal does not tell


def way(environ: Mapping[str, str], encoding: str | None) -> Way | None:
    """How a terminal draws pictures; None where it is without colours, or asked to be.

    encoding  of what is written to it; half blocks need UTF-8
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("NO_COLOR") or term in ("", "dumb"):
        return None
    # A multiplexer draws its own screen and passes protocols on in its own ways, or not at all.
    if not (environ.get("TMUX") or term.startswith(("screen", "tmux"))):
        if environ.get("KITTY_WINDOW_ID"):
            return "kitty"
        if environ.get("LC_TERMINAL") == "iTerm2":
            return "iterm2"
        if named := _BY_TERM.get(term) or _BY_PROGRAM.get(program):
            return named
    many_colours = environ.get("COLORTERM") in ("truecolor", "24bit") or "256color" in term
    return "blocks" if many_colours and _is_utf8(encoding) else None


def cell_pixels() -> tuple[int, int]:
    """Width and height of a character in pixels; a usual size where the terminal does not tell."""
    with suppress(ImportError, OSError, ValueError):  # no Unix, no terminal
        import fcntl
        import struct
        import termios

        size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", size)
        if rows and columns and width and height:
            return width // columns, height // rows
    return _CELL


def _is_utf8(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "") == "utf8"
