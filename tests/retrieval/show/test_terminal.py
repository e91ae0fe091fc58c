import pytest

from retrieval.show.terminal import cell_pixels, way

KITTY = {"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}


@pytest.mark.parametrize(("environ", "expected"), [
    (KITTY, "kitty"),
    ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
    ({"TERM": "xterm-ghostty"}, "kitty"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
    ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
    ({"TERM": "foot"}, "sixel"),
    ({"TERM": "xterm-256color"}, "blocks"),
    ({"TERM": "xterm", "COLORTERM": "truecolor"}, "blocks"),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, "blocks"),
    ({"TERM": "xterm"}, None),
    ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
    ({}, None),
    ({**KITTY, "NO_COLOR": "1"}, None),
    ({**KITTY, "NO_COLOR": ""}, "kitty"),  # by no-color.org it counts when it is not empty
    ({**KITTY, "TMUX": "/tmp/tmux-1000/default,1,0", "TERM": "tmux-256color"}, "blocks"),
    ({"TERM": "screen.xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
])
def test_way(environ, expected):
    assert way(environ, "utf-8") == expected


def test_half_blocks_need_utf8():
    assert way({"TERM": "xterm-256color"}, "latin-1") is None
    assert way(KITTY, "latin-1") == "kitty"


def test_a_cell_has_a_size_without_a_terminal():
    assert cell_pixels() == (10, 20)
