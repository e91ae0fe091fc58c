"""Captions that lie beside an image, as whole files of its name: beach.jpg, beach.txt, beach.json.

    .txt   one caption a line; lines without a letter, such as numbers of boxes, are none. An empty
           file takes captions away
    .json  an object with caption, captions or text: a caption or a list of them

Anything else in a .json is somebody else's, and passed over without a word.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Callable, Container
from typing import Any

from retrieval.corpus.found import storable
from retrieval.errors import NOTICE

SUFFIXES = (".txt", ".json")
MOST_BYTES = 64 * 1024  # of captions; what is larger is something else
_KEYS = ("caption", "captions", "text")

log = logging.getLogger("retrieval")


class Sidecars:
    """Reads them, and counts what looked like captions and is none."""

    def __init__(self) -> None:
        self._refused: list[str] = []

    def captions(
        self, image: str, names: Container[str], read: Callable[[str], bytes]
    ) -> tuple[str, ...] | None:
        """The captions of the image of this name, each once; None if nothing beside it has any.

        names  what lies beside it; nothing else is opened
        read   gives the content of one, or as much as is more than MOST_BYTES; may raise OSError
        """
        stem = posixpath.splitext(image)[0]
        found: list[str] | None = None
        for suffix, captions_in in zip(SUFFIXES, (_of_text, _of_json)):
            name = stem + suffix
            if name not in names:
                continue
            try:
                content = read(name)
                text = content.decode("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                content = None
            if content is None or len(content) > MOST_BYTES:
                self._refused.append(name)
                continue
            captions = captions_in(text)
            if captions is not None:
                found = [*(found or []), *captions]
        return None if found is None else tuple(dict.fromkeys(found))

    def tell(self, place: str) -> None:
        """Say, once, what was refused at `place`."""
        if self._refused:
            log.log(
                NOTICE, "%d files beside images in %s are no captions (above 64 KiB, or not UTF-8 text), such as %s.",
                len(self._refused), place, self._refused[0],
            )


def _of_text(text: str) -> list[str] | None:
    captions = [line.strip() for line in text.splitlines() if any(map(str.isalpha, line))]
    return captions if captions or not text.strip() else None


def _of_json(text: str) -> list[str] | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    said = [caption for key in _KEYS for caption in _listed(entry.get(key))]
    texts = [storable(caption.strip()) for caption in said if isinstance(caption, str) and caption.strip()]
    return texts or None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
