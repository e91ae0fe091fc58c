import io
import json
import sys

import pytest

from retrieval.cli import output


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns; returns what was printed on it."""
    def printed(width, columns, rows):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr(sys, "stdout", Terminal())
        output.print_rows(columns, rows)
        return sys.stdout.getvalue()

    return printed


def test_a_narrow_terminal_folds_words_and_never_numbers(terminal):
    columns = ("model", *(f"R@{k}" for k in (1, 5, 10)), "median rank")
    rows = [("hf-hub:somebody/a-model-with-a-long-name", "28.6", "78.6", "100.0", "12345.5")]
    shown = terminal(30, columns, rows)
    assert all(number in shown for number in rows[0][1:])
    assert "hf-hub:someb" in shown and rows[0][0] not in shown
    assert rows[0][0] in terminal(120, columns, rows)


def test_what_is_not_known_is_an_empty_cell(terminal):
    shown = terminal(80, ("width", "path"), [(None, "a.jpg"), (640, "b.jpg")]).splitlines()
    assert [line.split("│")[1:-1] for line in shown if ".jpg" in line] == [["       ", " a.jpg "], ["   640 ", " b.jpg "]]


def test_others_names_say_nothing_to_the_terminal(terminal, capsys):
    hostile = "a\x1b[2Jb\x1b]0;title\x07\x7f\x9b1A\u2028c\r\nd\u2029.jpg"
    escaped = r"a\x1b[2Jb\x1b]0;title\x07\x7f\x9b1A\u2028c\r\nd\u2029.jpg"
    lines = terminal(120, ("path", "caption"), [(hostile, "ein Café ☕")]).split("\n")
    assert [line.split("│")[1:-1] for line in lines if "Café" in line] == [[f" {escaped} ", " ein Café ☕ "]]
    output.warn_skipped([(hostile, "not an image")])
    assert capsys.readouterr().err == f"Skipped 1 unreadable:\n  {escaped}: not an image\n"


@pytest.mark.parametrize(("count", "shown"), [
    (0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (56_330_240, "56.3 MB"), (2_500_000_000, "2.5 GB"),
])
def test_sizes_for_people(count, shown):
    assert output.in_bytes(count) == shown


@pytest.mark.parametrize(("encoding", "said"), [
    ("utf-8", '{"query": "café 水"}'), ("utf8", '{"query": "café 水"}'),
    ("latin-1", r'{"query": "caf\u00e9 \u6c34"}'), ("ascii", r'{"query": "caf\u00e9 \u6c34"}'),
])
def test_json_is_json_in_every_encoding(monkeypatch, encoding, said):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, "backslashreplace"))
    output.print_json({"query": "café 水"})
    sys.stdout.flush()
    line = written.getvalue().decode(encoding)
    assert line == said + "\n" and json.loads(line) == {"query": "café 水"}
