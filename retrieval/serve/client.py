"""Asking a server of this machine, which has encoder and index loaded, instead of loading them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval.errors import CollectionError
from retrieval.manifest import Manifest
from retrieval.query import Query
from retrieval.serve.running import Running, find
from retrieval.types import Hit
from retrieval.wanted import Wanted
from retrieval.where import Filters

log = logging.getLogger("retrieval")

KNOCK_SECONDS = 0.5  # in which a server has to say what it serves
ANSWER_SECONDS = 60.0


def ask_running(
    path: Path, queries: Sequence[Query], wanted: Wanted, filters: Filters = Filters()
) -> list[Hit] | None:
    """What `Collection.answer` returns for these queries, from a server of the collection at `path`.

    filters  of which wanted.where was made

    None if none runs, it cannot be asked that, serves another state of the collection, or does not
    answer well: whoever asks then searches for themselves, and sees what is wrong, if anything is.
    """
    server = find(path)
    if server is None:
        return None
    from retrieval.serve.body import bodies  # here, as mostly no server runs

    try:
        if not _serves(server, Manifest.load(path)):
            return None
        asked = bodies(queries, wanted, filters)
        answers = [answer for body in asked for answer in _ask(server, "POST", "/search", body)["answers"]]
        return [
            Hit(**{**_known(hit), "query": query.shown})
            for query, answer in zip(queries, answers, strict=True) for hit in answer["hits"]
        ]
    except (OSError, ValueError, KeyError, TypeError, CollectionError) as error:
        log.debug("searching without the server: %r", error)
        return None


def _serves(server: Running, manifest: Manifest) -> bool:
    """Whether it is what the record says, and searches the state that the manifest tells of."""
    info = _ask(server, "GET", "/info", seconds=KNOCK_SECONDS)
    return info["collection"] == server.collection and (
        info["fingerprint"], info["created_at"], info["generation"]
    ) == (manifest.encoder.fingerprint, manifest.created_at, manifest.index.generation)


def _known(hit: dict[str, Any]) -> dict[str, Any]:
    """Without what the server adds, such as a frame's time."""
    return {name: value for name, value in hit.items() if name in Hit.__dataclass_fields__}


def _ask(
    server: Running, method: str, target: str, body: bytes | None = None, *, seconds: float = ANSWER_SECONDS
) -> dict[str, Any]:
    """Raises OSError, or ValueError for an answer that is none."""
    import http.client  # here, as mostly no server runs

    connection = http.client.HTTPConnection(server.host, server.port, timeout=seconds)
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    except http.client.HTTPException as error:
        raise ValueError(f"no answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200 or not isinstance(content, dict):
        raise ValueError(f"{target}: {answer.status} {content}")
    return content
