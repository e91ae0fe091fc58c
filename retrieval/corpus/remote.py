"""Images that are not on this machine's disks: web links, and what fsspec opens (s3://, gs://, ...).

A link to the web is read with Python's own means. Of one image that cannot be had the reason is
said; a server that does not answer, or not to the end, is not waited for longer than a minute.
"""

from __future__ import annotations

import http.client
import io
import posixpath
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any

from retrieval.corpus.found import FoundImage, Scan, is_hidden, is_image
from retrieval.documents import FileState
from retrieval.errors import CorpusError, ImageError

MOST_BYTES = 1 << 30  # of one image
SILENCE_SECONDS = 15.0  # for a server to answer, or to send the next piece
TOTAL_SECONDS = 60.0  # for the whole image, a second try included
PAUSE_SECONDS = 0.5  # before the second and last try
_PIECE = 1 << 16
_WEB = ("http", "https")
_TRY_AGAIN = (429, 500, 502, 503, 504)
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
        raise CorpusError(f"{uri} cannot be listed: {_reason(error)}. {advice}") from error
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
        return _read_web(uri)
    system, path = _open(uri)
    try:
        return system.cat_file(path)
    except FileNotFoundError as error:
        raise ImageError("not there") from error
    except Exception as error:  # each kind of storage has errors of its own
        raise ImageError(f"cannot be read: {_reason(error)}") from error


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
        raise ImageError(_reason(error)) from error


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


def _read_web(uri: str) -> bytes:
    _clock.over = time.monotonic() + TOTAL_SECONDS
    try:
        return _fetch(uri)
    except _Passing:
        time.sleep(PAUSE_SECONDS)
        return _fetch(uri)


class _Passing(ImageError):
    """What may be gone a moment later."""


def _fetch(uri: str) -> bytes:
    try:
        with _opener().open(_request(uri), timeout=SILENCE_SECONDS) as answer:
            content = bytearray()
            while piece := answer.read1(_PIECE):
                content += piece
                if len(content) > MOST_BYTES:
                    raise ImageError(f"larger than {MOST_BYTES >> 20} MiB")
            announced = answer.headers.get("Content-Length", "")
            if announced.isdecimal() and len(content) < int(announced):
                raise _Passing("the server broke off")
            return bytes(content)
    except urllib.error.HTTPError as error:
        error.close()
        kind = _Passing if error.code in _TRY_AGAIN else ImageError
        raise kind(f"the server answers {error.code} ({http.client.responses.get(error.code, 'unknown')})") from error
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise ImageError(f"no answer within {SILENCE_SECONDS:g} seconds") from error
        if isinstance(cause, ssl.SSLError):  # some of them are ValueErrors
            raise ImageError(f"there is no secure connection ({_reason(cause)})") from error
        if isinstance(cause, (http.client.InvalidURL, ValueError)):
            raise ImageError(f"not a link that can be followed ({_reason(cause)})") from error
        if isinstance(cause, (ConnectionResetError, http.client.HTTPException)):
            raise _Passing(f"the server broke off ({_reason(cause)})") from error
        if isinstance(cause, socket.gaierror):
            raise ImageError("there is no such server, or no network") from error
        raise ImageError(f"cannot be fetched: {_reason(cause)}") from error


_clock = threading.local()  # over: when this thread's image must be there


class _UntilOver(io.RawIOBase):
    """What a server sends, headers too, while there is time: a byte every few seconds is no silence."""

    def __init__(self, raw: io.RawIOBase):
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > _clock.over:
            raise ImageError(f"not all of it came within {TOTAL_SECONDS:g} seconds")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fp = io.BufferedReader(_UntilOver(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    response_class = _Answer


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_SecureConnection, request, context=_certificates())


@lru_cache(1)
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Http, _Https)


@lru_cache(1)
def _certificates() -> ssl.SSLContext:
    """Read once: they are many."""
    return ssl.create_default_context()


def _request(uri: str) -> urllib.request.Request:
    """Raises ValueError."""
    parts = urllib.parse.urlsplit(uri)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    # Spaces and letters beyond ASCII, as they are written by hand.
    quoted = urllib.parse.quote(plain, safe="%/:=&?~#+!$,;'@()*[]|")
    request = urllib.request.Request(quoted, headers={"User-Agent": "crossmodal-retrieval"})
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        # Not for a server that this one sends us on to.
        request.add_unredirected_header("Authorization", f"Basic {b64encode(secret.encode()).decode()}")
    return request


def _reason(error: Any) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
