"""Finding image files in folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from retrieval.catalog import FileState
from retrieval.errors import CorpusError
from retrieval.images import SUFFIXES
from retrieval.manifest import FILE_NAME as MANIFEST


@dataclass(frozen=True)
class FoundFile:
    """An image file by name, below the root that was asked for."""

    state: FileState
    root: Path

    @property
    def relative(self) -> str:
        """Path below the root, with forward slashes: what becomes the document's id."""
        return Path(self.state.path).relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Scan:
    """What a walk over the roots found. unreadable: (path, reason), folders and odd names."""

    files: list[FoundFile]
    unreadable: list[tuple[str, str]]
    roots: list[Path]


def scan(paths: Sequence[Path]) -> Scan:
    """Walk folders (and take single files) for images, by suffix, in path order.

    Hidden files and folders, and collections, are passed over; links to folders are not
    followed. Paths are made absolute. Raises CorpusError if a path does not exist.
    """
    files: dict[str, FoundFile] = {}
    unreadable: list[tuple[str, str]] = []
    roots = []
    for given in paths:
        path = Path(os.path.abspath(given))
        if not path.exists():
            raise CorpusError(f"{given} does not exist. Give a folder of images, or an image file.")
        if not path.is_dir() and not path.is_file():
            raise CorpusError(f"{given} is neither a folder nor an ordinary file.")
        if path.is_file() and path.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{given} is not an image file by its name ({_suffix_list()}).")
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
                files.setdefault(name, FoundFile(state, root))
    return Scan([files[name] for name in sorted(files)], unreadable, roots)


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
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _suffix_list() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))
