"""A folder that holds exactly the images of a list, so that any list can be indexed as a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from retrieval.corpus.sources import ImageSource
from retrieval.errors import DatasetError
from retrieval.files import write_atomically, write_json

# Which bytes of which tar each extracted file is; also the mark of a folder that may be emptied.
RECORD = ".staged.json"


def stage(images: Sequence[ImageSource], folder: Path) -> None:
    """Make `folder` hold exactly these images under their names.

    Files of their own are linked, members of tars are extracted. Whatever else is there is removed;
    what is there already stays as it is, its time of modification too, unless its tar has changed.
    A run that was cut off is finished by the next.

    Raises DatasetError if a name is used twice or leads out of the folder, an image is gone, the
    folder cannot be written, or it holds files that were not staged.
    """
    folder = Path(os.path.abspath(folder))
    wanted = _wanted(images)
    try:
        recorded = _record_of(folder)
        record = {name: _origin(source) for name, source in wanted.items()}
        keep = {name for name in wanted if recorded and record[name] == recorded.get(name)}
        _remove_others(folder, keep | {RECORD})
        # Before the images: a file that stands beside its record is what the record says.
        if record != recorded:
            write_json(folder / RECORD, record)
        for name, source in wanted.items():
            _put(source, folder / name)
    except OSError as error:
        raise DatasetError(
            f"Images cannot be staged in {folder}: {error.filename or ''} {error.strerror or error}."
        ) from error


def _wanted(images: Sequence[ImageSource]) -> dict[str, ImageSource]:
    wanted: dict[str, ImageSource] = {}
    for source in images:
        path = Path(source.name)
        if path.anchor or ".." in path.parts or path.as_posix() != source.name or source.name in (".", RECORD):
            raise DatasetError(
                f"The image '{source.name}' of {source.path} would not lie below the folder by its own name. "
                "Give it a plain relative name."
            )
        if source.name in wanted:
            paths = f"{wanted[source.name].path} and {source.path}"
            raise DatasetError(f"Two images are named '{source.name}': in {paths}. Give each its own name.")
        wanted[source.name] = source
    return wanted


def _record_of(folder: Path) -> dict[str, list] | None:
    """Return what the last staging recorded; None if there was none."""
    try:
        recorded = json.loads((folder / RECORD).read_bytes())
        return recorded if isinstance(recorded, dict) else {}
    except ValueError:  # damaged: everything is made anew
        return {}
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        if any(not path.name.startswith(RECORD) for path in folder.iterdir()):
            raise DatasetError(
                f"{folder} holds files that were not staged, and staging would remove them. Give an empty folder."
            ) from None
        return None


def _origin(source: ImageSource) -> list:
    path = os.path.abspath(source.path)
    try:
        modified = os.stat(path).st_mtime_ns
    except FileNotFoundError:
        raise DatasetError(f"{path}, which holds the image '{source.name}', is no longer there.") from None
    return [path] if source.offset is None else [path, source.offset, source.size, modified]


def _remove_others(folder: Path, keep: set[str]) -> None:
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent, name)
            if path.relative_to(folder).as_posix() not in keep:
                path.unlink()
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink():  # never of ours, and not to be written through
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _put(source: ImageSource, target: Path) -> None:
    if os.path.lexists(target):
        return  # as recorded
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.offset is None:
        target.symlink_to(os.path.abspath(source.path))
        return
    content = source.read()
    if len(content) != source.size:
        raise DatasetError(f"{source.path} ends within the image '{source.name}'. Fetch that file again.")
    write_atomically(target, content)
