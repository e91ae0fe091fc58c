"""Images of the web, read with Python's own means.

A server that does not answer, or not to the end, is not waited for longer than a minute.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from functools import lru_cache
from typing import Any

from retrieval.errors import ImageError, reason_of

MOST_BYTES = 1 << 30  # of one image
SILENCE_SECONDS = 15.0  # for a server to answer, or to send the next piece
TOTAL_SECONDS = 60.0  # for the whole image, a second try included
PAUSE_SECONDS = 0.5  # before the second and last try
_PIECE = 1 << 16
_TRY_AGAIN = (429, 500, 502, 503, 504)


def read(uri: str) -> bytes:
    """The image's bytes. Safe to call from threads. Raises ImageError."""
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
            raise ImageError(f"there is no secure connection ({reason_of(cause)})") from error
        if isinstance(cause, (http.client.InvalidURL, ValueError)):
            raise ImageError(f"not a link that can be followed ({reason_of(cause)})") from error
        if isinstance(cause, (ConnectionResetError, http.client.HTTPException)):
            raise _Passing(f"the server broke off ({reason_of(cause)})") from error
        if isinstance(cause, socket.gaierror):
            raise ImageError("there is no such server, or no network") from error
        raise ImageError(f"cannot be fetched: {reason_of(cause)}") from error


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
