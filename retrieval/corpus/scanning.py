"""Looking through everything that a collection can be made of, each source by its kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from retrieval.corpus import archives, folder, listing, remote, tables
from retrieval.corpus.addresses import absolute, is_uri
from retrieval.corpus.archives import is_archive
from retrieval.corpus.found import FoundImage, Scan, is_image, is_video
from retrieval.corpus.tables import TableOptions, is_table
from retrieval.errors import CorpusError

Source = str | Path | BinaryIO
_MOST_EXPANDED = 1_000_000


def scan(sources: Sequence[Source], options: TableOptions = TableOptions()) -> Scan:
    """Find the images and videos of all sources, in their order; one found again is not found twice.

    sources  a folder, an image or a video; an archive (.tar, .zip); a table of images and captions; a URI;
             several at once as shards/{000..099}.tar or {a,b}.tar; an open file that lists paths

    Raises CorpusError for what is not there or not of these, CaptionsError for a table that
    cannot be used, MissingPackageError.
    """
    images: dict[str, FoundImage] = {}
    unreadable: list[tuple[str, str]] = []
    roots: list[str] = []
    videos: dict[str, FoundImage] = {}
    for one in (one for source in sources for one in expanded(source)):
        found = _scan_one(one, options)
        for image in found.images:
            known = images.setdefault(image.state.path, image)
            if not known.captions and image.captions is not None:
                images[image.state.path] = replace(known, captions=image.captions)
        unreadable += found.unreadable
        roots += found.roots
        for video in found.videos:
            videos.setdefault(video.state.path, video)
    return Scan(list(images.values()), unreadable, roots, list(videos.values()))


def expanded(source: Source) -> Iterable[Source]:
    """Several sources written as one, such as shards/{000..099}.tar; else the one there is.

    Raises CorpusError.
    """
    if not isinstance(source, str | Path) or "{" not in str(source) or os.path.exists(source):
        return [source]
    parts = re.split(r"\{([^{}]*)\}", str(source))  # texts and what is in braces, by turns
    choices = [[part] if place % 2 == 0 else _choices(part, str(source)) for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def source_name(sources: Sequence[str]) -> str | None:
    """A name for what is made of these sources; None for a list on stdin, which has none."""
    if "-" in sources:
        return None
    if is_uri(sources[0]):
        return PurePosixPath(sources[0].partition("?")[0]).stem
    together = [*expanded(sources[0]), *sources[1:]]
    path = Path(os.path.realpath(together[0]))
    if path.is_dir() or not (is_archive(path.name) or is_table(path.name)):
        return path.name or "images"
    return (path.parent.name if len(together) > 1 else path.name.partition(".")[0]) or "images"


def _choices(part: str, source: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", part)
    if not numbers:
        return part.split(",") if "," in part else [f"{{{part}}}"]
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < _MOST_EXPANDED:
        raise CorpusError(f"{source}: {{{part}}} is no range from a lower to a higher number of at most a million.")
    width = max(len(first), len(last)) if first.startswith("0") else 0  # as shells do
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _scan_one(source: Source, options: TableOptions) -> Scan:
    if not isinstance(source, str | Path):
        return listing.scan(source, os.getcwd())
    given = str(source)
    path = absolute(given)
    if is_uri(path):
        if is_archive(given) or is_table(given):
            raise CorpusError(f"{given} is read from a disk of this machine only. Fetch it, and give the file.")
        return remote.scan(given)
    if not os.path.exists(path):
        raise CorpusError(f"{given} does not exist. Give a folder of images, an image, an archive, a table, or a URI.")
    is_file = os.path.isfile(path)
    if is_file and is_archive(path):
        return archives.scan(path)
    if is_file and is_table(path):
        return tables.scan(path, options)
    if is_file and not (is_image(path) or is_video(path)):
        kinds = ", ".join((*archives.SUFFIXES, *tables.SUFFIXES))
        raise CorpusError(
            f"{given} is neither an image nor a video by its name ({folder.suffix_list()}), "
            f"nor an archive or a table ({kinds})."
        )
    return folder.scan([Path(path)])
