"""Results on stdout: a table on a terminal, TSV when piped, JSON on request. The rest on stderr."""

from __future__ import annotations

import codecs
import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence

import click

from retrieval.errors import NOTICE

if TYPE_CHECKING:
    from retrieval.show import Picture


def configure_logging() -> None:
    """Notes go to stderr; off a terminal only notices and warnings do."""
    # Of damaged EXIF and odd chunks: an image either opens, or is named with the reason.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    handler = _Notes()
    for name in ("retrieval", "indexes"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if sys.stderr.isatty() else NOTICE)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class _Notes(logging.Handler):
    # Not a StreamHandler: while a progress bar is drawn, sys.stderr is the bar's own.
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "Warning: " if record.levelno >= logging.WARNING else ""
        click.echo(prefix + record.getMessage(), err=True)


class Best(str):
    """A cell to be set in bold: the best of its column."""


def shell_quoted(path: Path) -> str:
    """To be pasted behind a command."""
    import shlex

    return shlex.quote(str(path))


def print_json(content: dict[str, Any]) -> None:
    # In other encodings characters that these lack would come as \x.., which is no JSON.
    whole = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    click.echo(json.dumps(content, ensure_ascii=not whole))


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", pictures: Sequence[Picture] = ()
) -> None:
    """A table on a terminal, without rows nothing; tab-separated with a header line when piped.

    pictures  one for each row, to stand before it on a terminal; or none at all
    """
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            # Tabs and line breaks are legal in file names and would break the columns.
            click.echo("\t".join(_shown(cell).translate(_ESCAPES) for cell in row))
        return
    if not rows:
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold",
                  show_lines=bool(pictures))
    narrowest = 1
    if pictures:
        from retrieval.show import COLUMNS

        table.add_column("", width=COLUMNS)
        narrowest += 3 + COLUMNS
    for column, cells in zip(columns, zip(*rows)):
        right = all(_is_number(cell) for cell in cells if cell is not None)
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
        widest = max(cell_len(_visible(cell)) for cell in (column, *cells))
        narrowest += 3 + (widest if right else min(widest, _TEXT_AT_LEAST))
    for number, row in enumerate(rows):
        picture = [picture.cell for picture in pictures[number : number + 1]]
        table.add_row(
            *picture, *(Text(_visible(cell), "bold green" if isinstance(cell, Best) else "") for cell in row)
        )
    console = Console()
    # On a narrow terminal words are folded; rather than 78.6 becoming 78. and 6, lines run on below.
    console.width = max(console.width, narrowest)
    if not any(picture.drawing for picture in pictures):
        console.print(table)
        return
    from retrieval.show import drawn_over

    with console.capture() as printed:
        console.print(table)
    sys.stdout.write(drawn_over(printed.get(), pictures))
    sys.stdout.flush()


def stream_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """`print_rows` for more rows than memory should hold: on a terminal, a table for every thousand."""
    if sys.stdout.isatty():
        rows = iter(rows)
        while part := list(islice(rows, 1000)):
            print_rows(columns, part)
        return
    for row in chain([columns], rows):
        print_rows(row, [])


def print_facts(facts: dict[str, Any], *, title: str = "") -> None:
    """Names and values, one a line."""
    if title:
        click.echo(title)
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"  {name.ljust(width)}  {_visible(value)}")


def in_bytes(count: int) -> str:
    """A size for people, in powers of 1,000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def warn_skipped(skipped: Sequence[tuple[str, str]], *, most: int = 20) -> None:
    """Name files that were passed over, on stderr."""
    if not skipped:
        return
    from retrieval.corpus.addresses import in_words

    click.echo(f"Skipped {len(skipped)} unreadable:", err=True)
    for path, reason in skipped[:most]:
        click.echo(_visible(f"  {in_words(path)}: {reason}"), err=True)
    if len(skipped) > most:
        click.echo(f"  ... and {len(skipped) - most} more; --json lists all.", err=True)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """(what, done, total) of work in several stages, a bar each on stderr; silent off a terminal."""
    with _bars() as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


@contextmanager
def progress_bar(what: str) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """(set the total, advance by) of a bar on stderr; silent off a terminal."""
    bar = _bars()
    with bar:
        task = bar.add_task(what, total=None)
        yield (
            lambda total: bar.update(task, total=total),
            lambda count: bar.advance(task, count),
        )


def _bars():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        def render(self, task):  # rich passes the task
            return f"{task.speed:.0f}/s" if task.speed else ""

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""),
        TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )


def plain(cell: object) -> str:
    """For programs: six digits of a fraction."""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


_TEXT_AT_LEAST = 12  # characters of a column of words
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
# What would move the cursor, clear the screen or break a line: C0, C1, and Unicode's own separators.
_CONTROLS = {code: chr(code).encode("unicode_escape").decode() for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _shown(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) <= 1 else f"{cell:.1f}"
    return "" if cell is None else str(cell)


def _visible(cell: Any) -> str:
    """For terminals: names and captions are others' texts, and may hold what a terminal obeys."""
    return _shown(cell).translate(_CONTROLS)
