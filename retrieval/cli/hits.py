"""Hits on stdout, in the form that was asked for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterable, Sequence

import click

from retrieval.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from retrieval.show import Picture, Way
    from retrieval.types import Hit

_MORE = ("relevance", "rerank_score", "duplicates")  # of hits that were refined


@dataclass(frozen=True)
class Form:
    """How hits are printed. thumbnails None: where stdout is a terminal that can draw.

    Raises click.UsageError for what does not go together.
    """

    as_json: bool = False
    paths: bool = False
    null: bool = False
    thumbnails: bool | None = None
    captions: bool = False

    def __post_init__(self) -> None:
        if self.null and not self.paths:
            raise click.UsageError("-0 is about --paths; give both.")
        if self.paths and self.as_json:
            raise click.UsageError("--paths and --json are two forms of output; choose one.")
        if self.thumbnails and (self.paths or self.as_json or not sys.stdout.isatty()):
            raise click.UsageError("--thumbnails draws in the table on a terminal, and here is none.")
        if self.thumbnails and not _way():
            raise click.UsageError(
                "--thumbnails needs a terminal with colours: set TERM or COLORTERM to what yours can, and not NO_COLOR."
            )

    def print(self, hits: Iterable[Hit]) -> list[Hit]:
        """Return them as well. JSON is printed as they come."""
        from retrieval.corpus import addresses

        if self.as_json:
            found = []
            for hit in hits:
                print_json({**hit.as_json(), **addresses.position(hit.path)})
                found.append(hit)
            return found
        hits = list(hits)
        if self.paths:
            print_paths([hit.path for hit in hits], addresses.file_of, self.null)
            return hits
        more = [name for name in _MORE if any(getattr(hit, name) is not None for hit in hits)]
        more += ["caption"] * self.captions
        print_rows(
            ("query", "rank", "score", *more, "path"),
            [(hit.query, hit.rank, hit.score, *(getattr(hit, name) for name in more),
              addresses.in_words(hit.path)) for hit in hits],
            pictures=self._pictures(hits),
        )
        return hits

    def _pictures(self, hits: Sequence[Hit]) -> list[Picture]:
        if self.thumbnails is False or not sys.stdout.isatty():
            return []
        from retrieval.show import draw_all

        by = _way()
        return draw_all([hit.path for hit in hits], by) if by else []


def print_paths(paths: Sequence[str], file_of: Callable[[str], str | None], null: bool) -> None:
    """The files of addresses, each once; those that are no file's are counted on stderr."""
    files = dict.fromkeys(map(file_of, paths))
    for file in files:
        if file is not None:  # as bytes: names need not be text of any encoding
            click.echo(os.fsencode(file) + (b"\0" if null else b"\n"), nl=False)
    if None in files:
        lost = list(dict.fromkeys(path for path in paths if file_of(path) is None))
        click.echo(f"Left out {len(lost)} that are no files of their own, such as {lost[0]}", err=True)


def _way() -> Way | None:
    from retrieval.show import way

    return way(os.environ, sys.stdout.encoding)
