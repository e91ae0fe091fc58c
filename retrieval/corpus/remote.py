"""Images that are not on this machine's disks: web links, and what fsspec opens (s3://, gs://, ...).

Of one image that cannot be had the reason is said.
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

from retrieval.corpus.found import FoundImage, Scan, is_hidden, is_image
from retrieval.documents import FileState
from retrieval.errors import CorpusError, ImageError, reason_of

_WEB = ("http", "https")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Under what names listings say when, or as which version, something was written.
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_folder = lru_cache(1024)(PurePosixPath)  # millions of links share some folders


def is_uri(name: str) -> bool:
    return _SCHEME.match(name) is not None


def named(uri: str, captions: tuple[str, ...] | None = None) -> FoundImage:
    """The image at a URI that a list or a table names. Nothing is asked of the network: what was read
    once counts as unchanged."""
    place, mark, query = uri.partition("?")
    folder, _, name = place.rstrip("/").rpartition("/")
    return FoundImage(FileState(uri, -1, 0), _folder(folder), f"{name}{mark}{query}", captions)


def scan(uri: str) -> Scan:
    """The image at the URI, or all images below it if it is a folder that can be listed.

    Raises CorpusError.
    """
    if uri.partition("://")[0].lower() in _WEB:
        return Scan([named(uri)], [], [])  # a web server lists nothing
    uri = uri.rstrip("/")
    try:
        system, path = _open(uri)
        info = system.info(path)
        if info["type"] != "directory":
            root = PurePosixPath(posixpath.dirname(uri))
            return Scan([FoundImage(_state(uri, info), root, posixpath.basename(uri))], [], [uri])
        listed = system.find(path, detail=True)
    except ImageError as error:
        raise CorpusError(f"{uri} cannot be read: {error}.") from error
    except FileNotFoundError as error:
        raise CorpusError(f"{uri} does not exist. Check its spelling.") from error
    except Exception as error:  # each kind of storage has errors of its own
        advice = "Check its spelling and your credentials."
        raise CorpusError(f"{uri} cannot be listed: {reason_of(error)}. {advice}") from error
    images = []
    for place in sorted(listed):
        relative = place[len(path.rstrip("/")):].lstrip("/")
        if is_image(relative) and not is_hidden(relative):
            state = _state(f"{uri}/{relative}", listed[place])
            images.append(FoundImage(state, PurePosixPath(uri), relative))
    return Scan(images, [], [uri])


def read(uri: str) -> bytes:
    """The image's bytes. Safe to call from threads. Raises ImageError."""
    if uri.partition("://")[0].lower() in _WEB:
        from retrieval.corpus import web  # which takes a while to import, and is seldom needed

        return web.read(uri)
    system, path = _open(uri)
    try:
        return system.cat_file(path)
    except FileNotFoundError as error:
        raise ImageError("not there") from error
    except Exception as error:  # each kind of storage has errors of its own
        raise ImageError(f"cannot be read: {reason_of(error)}") from error


def _open(uri: str) -> tuple[Any, str]:
    """fsspec's file system, and the path in it. Raises ImageError."""
    protocol = uri.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise ImageError(_missing(protocol, "remote")) from error
    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        raise ImageError(_missing(protocol, extra) if extra else f"{protocol}:// needs more: {error}") from error
    except Exception as error:
        raise ImageError(reason_of(error)) from error


def _missing(protocol: str, extra: str) -> str:
    return f"{protocol}:// needs a package that is not installed: pip install 'crossmodal-retrieval[{extra}]'"


def _state(uri: str, info: dict[str, Any]) -> FileState:
    version = next((info[name] for name in _VERSIONS if info.get(name) is not None), None)
    return FileState(uri, -1 if info.get("size") is None else info["size"], _number(version))


def _number(version: Any) -> int:
    """Nanoseconds of a time; of anything else a number that changes when it does."""
    if version is None:
        return 0
    if isinstance(version, datetime):
        version = version.timestamp()
    if isinstance(version, (int, float)):
        return int(version * 1e9)
    return int.from_bytes(blake2b(str(version).encode(), digest_size=7).digest(), "big")
