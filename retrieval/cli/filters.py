"""Options that say which images may be found, and what they say together."""

from __future__ import annotations

from typing import Any, Callable

import click

from retrieval.cli.options import PLACE

_OPTIONS = (
    click.option("--where", metavar="FILTER",
                 help="Only images of which this is true: \"taken >= 2024-06 and camera ~ 'Pixel'\"; the words are above."),
    click.option("--near", metavar="LAT,LON,KM", help="Only images taken within so many kilometres of a place in degrees."),
    click.option("--after", metavar="DATE", help="Only images taken since then: 2024, 2024-06, 2024-06-01."),
    click.option("--before", metavar="DATE", help="Only images taken before then."),
    click.option("--camera", metavar="TEXT", help="Only images of a camera whose name contains this."),
    click.option("--in-folder", "folders", multiple=True, type=PLACE, metavar="PATH",
                 help="Only images in this folder or archive; repeat it for several."),
)


def filters(command: Callable) -> Callable:
    """Add the options; the command takes them as **filtered."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def stated(
    where: str | None, near: str | None, after: str | None, before: str | None, camera: str | None,
    folders: tuple[str, ...],
) -> Any:
    """They as `retrieval.where.Filters`."""
    from retrieval.corpus.addresses import absolute, starts_within
    from retrieval.where import Filters

    return Filters(where, near, after, before, camera, starts_within(absolute(folder) for folder in folders))
