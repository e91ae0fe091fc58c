"""Finding image files in folders, and the captions beside them."""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from pathlib import Path
from typing import Iterator, Sequence

from retrieval.corpus.found import FoundImage, Scan, escaped, is_image, is_unicode, is_video
from retrieval.corpus.sidecars import MOST_BYTES, Sidecars
from retrieval.documents import FileState
from retrieval.errors import CorpusError
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES
from retrieval.manifest import FILE_NAME as MANIFEST


def scan(paths: Sequence[Path]) -> Scan:
    """Walk folders (and take single files) for images and videos, by suffix, in path order.

    Hidden files and folders, and collections, are passed over; links to folders are not
    followed. Paths are made absolute. Captions lie beside images as `sidecars` says. Raises
    CorpusError if a path does not exist.
    """
    images: dict[str, FoundImage] = {}
    videos: dict[str, FoundImage] = {}
    unreadable: list[tuple[str, str]] = []
    roots = []
    for given in paths:
        path = Path(os.path.abspath(given))
        if not path.exists():
            raise CorpusError(f"{given} does not exist. Give a folder of images, or an image file.")
        if not path.is_dir() and not path.is_file():
            raise CorpusError(f"{given} is neither a folder nor an ordinary file.")
        if path.is_file() and not (is_image(path.name) or is_video(path.name)):
            raise CorpusError(f"{given} is neither an image nor a video by its name ({suffix_list()}).")
        roots.append(str(path))
        root = path if path.is_dir() else path.parent
        sidecars = Sidecars()
        for file, beside in _walk(path, unreadable) if path.is_dir() else [(path, _Present(root))]:
            name = str(file)
            if not is_unicode(name):
                unreadable.append(escaped(name))
                continue
            try:
                status = file.stat()
            except FileNotFoundError:
                continue  # a link that leads nowhere, or gone since it was listed
            except OSError as error:
                unreadable.append((name, f"cannot be read: {error.strerror or error}"))
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            state = FileState(name, status.st_size, status.st_mtime_ns)
            relative = file.relative_to(root).as_posix()
            if is_video(file.name):
                videos.setdefault(name, FoundImage(state, root, relative))
                continue
            captions = sidecars.captions(file.name, beside, lambda other: _beginning(file.parent / other))
            images.setdefault(name, FoundImage(state, root, relative, captions))
        sidecars.tell(str(root))
    return Scan(_in_order(images), unreadable, roots, _in_order(videos))


def _in_order(found: dict[str, FoundImage]) -> list[FoundImage]:
    return [found[name] for name in sorted(found)]


def suffix_list() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES | VIDEO_SUFFIXES))


def _walk(folder: Path, unreadable: list[tuple[str, str]]) -> Iterator[tuple[Path, Container[str]]]:
    """Each image, and the names of the files beside it."""
    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), f"cannot be read: {error.strerror or error}"))

    for parent, folders, names in os.walk(folder, onerror=note):
        if MANIFEST in names and Path(parent).suffix == ".collection":
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        beside = frozenset(names)
        for name in names:
            if not name.startswith(".") and (is_image(name) or is_video(name)):
                yield Path(parent, name), beside


class _Present:
    """The names of a folder's files, none listed: of a single image only two matter."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __contains__(self, name: object) -> bool:
        return (self._folder / str(name)).is_file()


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MOST_BYTES + 1)
