"""Which servers run on this machine: each leaves a record in the user's cache folder while it does."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from retrieval.files import cache_folder, write_json

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where such a server is reached from here


@dataclass(frozen=True)
class Running:
    """A server. collection: how it calls its collection, as GET /info says. machine: cache folders
    may be shared by several.
    """

    collection: str
    host: str
    port: int
    pid: int
    machine: str
    started_at: str


@contextmanager
def recorded(path: Path, host: str, port: int) -> Iterator[None]:
    """Leave a record for as long as the collection at `path` is served; without a cache folder, none."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    mine = Running(str(path), _EVERY_ADDRESS.get(host, host), port, os.getpid(), platform.node(), now)
    with suppress(OSError):
        file = _file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(mine))
    try:
        yield
    finally:
        with suppress(OSError):
            if _read(_file(path)) == mine:  # else another server of it started since
                _file(path).unlink()


def find(path: Path) -> Running | None:
    """The server that says it serves the collection at `path`, if its process is there."""
    with suppress(OSError):
        found = _read(_file(path))
        if found and found.machine == platform.node() and _is_alive(found.pid):
            return found
    return None


def _file(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cache_folder() / "servers" / f"{name}.json"


def _read(file: Path) -> Running | None:
    try:
        return Running(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # gone, or of another version
        return None


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there signal 0 would end it; whether it answers is asked next anyway
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
