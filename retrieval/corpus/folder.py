"""Finding image files in folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Sequence

from retrieval.catalog import FileState
from retrieval.corpus.found import FoundImage, Scan
from retrieval.errors import CorpusError
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES
from retrieval.manifest import FILE_NAME as MANIFEST

_LOOKED_FOR = SUFFIXES | VIDEO_SUFFIXES


def scan(paths: Sequence[Path]) -> Scan:
    """Walk folders (and take single files) for images and videos, by suffix, in path order.

    Hidden files and folders, and collections, are passed over; links to folders are not
    followed. Paths are made absolute. Raises CorpusError if a path does not exist.
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
        if path.is_file() and path.suffix.lower() not in _LOOKED_FOR:
            raise CorpusError(f"{given} is neither an image nor a video by its name ({_suffix_list()}).")
        roots.append(path)
        root = path if path.is_dir() else path.parent
        for file in _walk(path, unreadable) if path.is_dir() else [path]:
            try:
                name = str(file)
                name.encode()  # the catalogue and JSON output hold Unicode only
                status = file.stat()
            except UnicodeEncodeError:
                shown = os.fsencode(file).decode("utf-8", "backslashreplace")
                unreadable.append((shown, "the file name is not valid UTF-8; rename it"))
            except OSError as error:
                unreadable.append((str(file), f"cannot be read: {error.strerror or error}"))
            else:
                state = FileState(name, status.st_size, status.st_mtime_ns)
                kind = videos if file.suffix.lower() in VIDEO_SUFFIXES else images
                kind.setdefault(name, FoundImage(state, root, file.relative_to(root).as_posix()))
    return Scan(_in_order(images), unreadable, roots, _in_order(videos))


def _walk(folder: Path, unreadable: list[tuple[str, str]]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), f"cannot be read: {error.strerror or error}"))

    for parent, folders, names in os.walk(folder, onerror=note):
        if MANIFEST in names and Path(parent).suffix == ".collection":
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in _LOOKED_FOR and path.is_file():
                yield path


def _in_order(found: dict[str, FoundImage]) -> list[FoundImage]:
    return [found[name] for name in sorted(found)]


def _suffix_list() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in _LOOKED_FOR))
