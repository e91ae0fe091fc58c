"""Making a folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

from retrieval.errors import ExchangeError
from retrieval.files import sync_folder
from retrieval.writing import LOCK_FILE, beside, is_vacant


def require_vacant(path: Path) -> None:
    """Raises ExchangeError unless `path` is an empty folder, or absent and can be made."""
    if not is_vacant(path):
        raise ExchangeError(f"{path} is there already. Choose another place with -o, or move it away.")
    place = Path(os.path.abspath(path))
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ExchangeError(f"{place} cannot be written to. Choose another place with -o.")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` to fill; it becomes `path` at the end, or goes on an error.

    What a killed run left there goes when the next one starts. Raises ExchangeError if `path` is
    taken, another run is filling it, or the disk will not have it.
    """
    require_vacant(path)
    path = Path(os.path.abspath(path))
    place = beside(path, "new")
    lock = FileLock(place / LOCK_FILE)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        try:
            _clear(place)
            yield place
            require_vacant(path)  # looked at again: filling took its time
            (place / LOCK_FILE).unlink()
            os.rename(place, path)  # replaces an empty folder
            sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        finally:
            lock.release()
    except Timeout as error:
        raise ExchangeError(f"Another run is making {path}. Wait for it to finish.") from error
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExchangeError(
            f"{path} cannot be written: {reason}. Nothing was kept; choose another place with -o, "
            "or mend the cause and run the same command again."
        ) from error


def _clear(folder: Path) -> None:
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        elif one.name != LOCK_FILE:
            one.unlink()
