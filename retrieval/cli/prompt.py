"""Queries typed one after another, with the encoder kept loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from retrieval.errors import RetrievalError
from retrieval.files import cache_folder

_HELP = """\
  Type what to look for, or the path of an image file.
  :k N     show N results a query; :k alone, as many as usual
  :help    this
  Ctrl-C ends a query that takes too long. An empty line or Ctrl-D ends it all."""
_HISTORY_LINES = 1000


def is_possible() -> bool:
    """Whether there is somebody to type and to read."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def prompt(answer: Callable[[str, int | None], None], k: int | None) -> None:
    """Call answer(query, k) for each line until an empty one.

    Errors of this program's are told and passed over. An interrupt ends the query that is being answered.
    """
    click.echo("An empty line or Ctrl-D ends it; :help says more.", err=True)
    with _history():
        while line := _line():
            try:
                if line.startswith(":"):
                    k = _command(line, k)
                else:
                    answer(line, k)
            except (RetrievalError, OSError) as error:
                click.echo(f"Error: {error}", err=True)
            except KeyboardInterrupt:
                if _is_half_imported():
                    raise
                click.echo("\nInterrupted.", err=True)


def _is_half_imported() -> bool:
    """Whether there are parts of a package that is not there itself: torch cannot be imported a second time then."""
    return any(name.partition(".")[0] not in sys.modules for name in list(sys.modules))


def _line() -> str:
    try:
        return input("search> ").strip()
    except EOFError:
        click.echo()
        return ""


def _command(line: str, k: int | None) -> int | None:
    """The k from now on."""
    name, _, value = line.partition(" ")
    if name == ":k" and not value:
        return None
    if name == ":k" and value.strip().isdecimal() and int(value) > 0:
        return int(value)
    click.echo(_HELP)
    return k


@contextmanager
def _history() -> Iterator[None]:
    """Arrow keys bring back earlier lines, of earlier days too."""
    try:
        import readline
    except ImportError:  # Windows has no such module
        yield
        return
    file = None
    with suppress(OSError):
        file = cache_folder() / "history"
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(_HISTORY_LINES)
        with suppress(OSError):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(file)
