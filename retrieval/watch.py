"""Keeping a collection up to date while files come and go."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Callable, Iterator, Sequence

from retrieval.corpus import sidecars
from retrieval.corpus.addresses import is_uri
from retrieval.corpus.scanning import expanded
from retrieval.corpus.tables import TableOptions
from retrieval.errors import CollectionError, CorpusError, EncoderError, RetrievalError
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES
from retrieval.maintain import IndexReport, Options, Watcher, index_sources
from retrieval.reading import EncoderOnDemand

QUIET_MS = 300  # a burst of changes is over after so long a pause
LONGEST_BURST_MS = 5_000  # and is not waited for longer
TICK_MS = 500
RETRY_SECONDS = 10.0  # after an update that failed: the cause may go away by itself


def watch(
    sources: Sequence[str | Path],
    path: Path,
    options: Options,
    *,
    tables: TableOptions = TableOptions(),
    stop: threading.Event,
    on_update: Callable[[IndexReport], None],
    on_error: Callable[[str], None],
) -> None:
    """Update the collection at `path` now, and after each burst of changes, until `stop` is set.

    The encoder stays loaded; others may write to the collection between two updates. An update
    that fails is told once, as a sentence, and tried again after some seconds.

    sources  folders, images, archives and tables; of a table that file alone is watched, and not
             the images it names
    options  as for `index_sources`; files that could not be read are tried again by the first update alone

    Raises RetrievalError if a source lies elsewhere, the first update fails, or watchfiles is not
    installed.
    """
    places = [Path(os.path.abspath(place)) for place in _on_this_machine(sources)]
    encoder, watcher = EncoderOnDemand(), Watcher(stop=stop.is_set)
    first, told, due = True, "", math.inf
    for changed in _changes(places, path, stop):
        if not changed and monotonic() < due:
            continue
        try:
            report = index_sources(sources, path, options, tables=tables, watcher=watcher, encoder=encoder)
        except (RetrievalError, OSError) as error:
            if first:
                raise
            if isinstance(error, EncoderError):
                encoder.loaded = None  # another may be right, once the collection was rebuilt
            if str(error) != told:
                told = str(error)
                on_error(told)
            due = monotonic() + RETRY_SECONDS
        else:
            first, told, due = False, "", math.inf
            options = replace(options, retry_failed=False)  # not all of them, again and again
            on_update(report)


def _changes(places: Sequence[Path], path: Path, stop: threading.Event) -> Iterator[bool]:
    """Whether something changed, twice a second or after a burst of changes.

    The first tick after watching begins says yes: what happened before it was not seen.
    """
    watchfiles = _watchfiles()
    unseen = True
    while not stop.is_set():
        there = _present(places)
        if not there:
            yield unseen
            unseen = False
            stop.wait(TICK_MS / 1000)
            continue
        unseen = True
        try:
            for changes in watchfiles.watch(
                *there, watch_filter=_matters(path, places), debounce=LONGEST_BURST_MS, step=QUIET_MS,
                rust_timeout=TICK_MS, yield_on_timeout=True, stop_event=stop,
            ):
                yield unseen or bool(changes)
                unseen = False
                if _present(places) != there:  # one went, came back, or was replaced: watch anew
                    unseen = True
                    break
        except FileNotFoundError:  # it went before watching began
            yield True
            stop.wait(TICK_MS / 1000)


def _on_this_machine(sources: Sequence[str | Path]) -> list[str]:
    """Each place by itself. Raises CorpusError."""
    for source in map(str, sources):
        if source == "-" or is_uri(source):
            raise CorpusError(
                f"{source} cannot be watched: give folders or files of this machine, or use `retrieval index`."
            )
    return [str(place) for source in sources for place in expanded(source)]


def _present(places: Sequence[Path]) -> dict[Path, int]:
    """The places that are there, and which ones they are (inodes)."""
    found = {}
    for place in places:
        with suppress(OSError):  # asked once, as it may go between two questions
            found[place] = place.stat().st_ino
    return found


def _matters(collection: Path, places: Sequence[Path]) -> Callable[[Any, str], bool]:
    """Whether a change may be one of images; what is hidden, or written here, is not."""
    own = os.path.realpath(collection)
    given = set(map(os.path.realpath, places))  # archives and tables among them

    def matters(_: Any, changed: str) -> bool:
        real = os.path.realpath(changed)
        if real == own or real.startswith(own + os.sep):
            return False
        if real in given:
            return True
        path = Path(changed)
        if path.name.startswith("."):
            return False
        matters_by_name = SUFFIXES | VIDEO_SUFFIXES | frozenset(sidecars.SUFFIXES)
        return path.suffix.lower() in matters_by_name or not path.is_file()  # a folder, or gone

    return matters


def _watchfiles() -> Any:
    try:
        import watchfiles
    except ImportError as error:
        raise CollectionError(
            "Watching needs the package watchfiles. Install it: "
            "pip install 'crossmodal-retrieval[watch]'"
        ) from error
    return watchfiles
