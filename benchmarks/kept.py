"""What takes long to make is made once and kept in the work folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def kept(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path`; if it is not there, make(a path beside it) and move that into place.

    Whatever ends the making, a half-made file or folder never stands under its final name.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        make(beside)
        os.replace(beside, path)
    finally:
        remove(beside)
    return path


def edition() -> str:
    """For names of collections that are kept: another schema or built-in encoder cannot use them."""
    from retrieval.encoders.text_tower import published
    from retrieval.manifest import SCHEMA_VERSION

    return f"schema-{SCHEMA_VERSION}-builtin-{published()['fingerprint'][:8]}"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
