"""Asking a server of this machine, which has encoder and index loaded, instead of loading them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from retrieval.errors import CollectionError
from retrieval.manifest import Manifest
from retrieval.query import Query
from retrieval.wanted import Wanted
from retrieval.serve.running import Running, find
from retrieval.types import Hit

log = logging.getLogger("retrieval")

KNOCK_SECONDS = 0.5  # in which a server has to say what it serves
ANSWER_SECONDS = 60.0
_TEXTS_AT_ONCE = 64  # as many as a server takes
_MAX_K = 1000


def ask_running(path: Path, queries: Sequence[Query], wanted: Wanted) -> list[Hit] | None:
    """What `Collection.answer` returns for these queries, from a server of the collection at `path`.

    None if none runs, it cannot be asked that, serves another state of the collection, or does not
    answer well: whoever asks then searches for themselves, and sees what is wrong, if anything is.
    """
    k = wanted.k
    if wanted != Wanted(k) or any(query.terms or query.document for query in queries) or (k or 0) > _MAX_K:
        return None
    server = find(path)
    if server is None:
        return None
    try:
        if not _serves(server, Manifest.load(path)):
            return None
        answers: dict[int, list[Hit]] = {}
        texts = [index for index, query in enumerate(queries) if query.image is None]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            asked = texts[start : start + _TEXTS_AT_ONCE]
            target = _target(k, *(("q", queries[index].shown) for index in asked))
            answers.update(zip(asked, _each(_ask(server, "GET", target)["hits"]), strict=True))
        for index, query in enumerate(queries):
            if query.image is not None:
                answers[index] = _by_image(server, query, k)
        return [hit for index in range(len(queries)) for hit in answers[index]]
    except (OSError, ValueError, KeyError, TypeError, CollectionError) as error:
        log.debug("searching without the server: %r", error)
        return None


def _serves(server: Running, manifest: Manifest) -> bool:
    """Whether it is what the record says, and searches the state that the manifest tells of."""
    info = _ask(server, "GET", "/info", seconds=KNOCK_SECONDS)
    return info["collection"] == server.collection and (
        info["fingerprint"], info["created_at"], info["generation"]
    ) == (manifest.encoder.fingerprint, manifest.created_at, manifest.index.generation)


def _by_image(server: Running, query: Query, k: int | None) -> list[Hit]:
    if not isinstance(query.image, Path):
        raise ValueError("an image without a file")
    hits = _ask(server, "POST", _target(k), query.image.read_bytes())["hits"]
    return [Hit(**{**_known(hit), "query": query.shown}) for hit in hits]


def _each(hits: Sequence[dict[str, Any]]) -> list[list[Hit]]:
    """The hits query by query: each begins with rank 1."""
    answers: list[list[Hit]] = []
    for hit in hits:
        if hit["rank"] == 1:
            answers.append([])
        answers[-1].append(Hit(**_known(hit)))
    return answers


def _known(hit: dict[str, Any]) -> dict[str, Any]:
    """Without what the server adds, such as a frame's time."""
    return {name: value for name, value in hit.items() if name in Hit.__dataclass_fields__}


def _target(k: int | None, *parameters: tuple[str, str]) -> str:
    return "/search?" + urlencode([*parameters, *([] if k is None else [("k", str(k))])])


def _ask(
    server: Running, method: str, target: str, body: bytes | None = None, *, seconds: float = ANSWER_SECONDS
) -> dict[str, Any]:
    """Raises OSError, or ValueError for an answer that is none."""
    import http.client  # here, as mostly no server runs

    connection = http.client.HTTPConnection(server.host, server.port, timeout=seconds)
    try:
        connection.request(method, target, body, {"Content-Type": "image/*"} if body else {})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    except http.client.HTTPException as error:
        raise ValueError(f"no answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200 or not isinstance(content, dict):
        raise ValueError(f"{target.partition('?')[0]}: {answer.status} {content}")
    return content
