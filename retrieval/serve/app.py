"""What the server answers to HTTP requests: JSON throughout, and nothing from the disk but hits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retrieval.corpus import addresses
from retrieval.errors import QueryError, RetrievalError
from retrieval.query import Query, text_query
from retrieval.serve.body import MAX_BODY, MAX_QUERIES, UPLOADED, read, refuse_large_k
from retrieval.serve.searcher import Searcher
from retrieval.types import Hit
from retrieval.wanted import Wanted
from retrieval.where import every

log = logging.getLogger("retrieval")

DECODED_AT_ONCE = 2  # requests' images; a large one takes much memory


def make_app(searcher: Searcher) -> Starlette:
    """GET /search?q=WORDS&k=10&where=FILTER, POST /search with an image as the body or with JSON, which may ask
    all that `retrieval.serve.body` tells, GET /info, GET /health.

    The first two are answered {"hits": [HIT, ...]}, query after query, JSON {"answers": [{"query": NAME,
    "hits": [HIT, ...]}, ...]}, an answer for each query.
    """
    decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    async def search(request: Request) -> Response:
        texts = request.query_params.getlist("q")
        if not texts:
            raise QueryError("There is no query. Say what to look for: /search?q=a+dog&q=a+cat&k=10")
        if len(texts) > MAX_QUERIES:
            raise QueryError(f"These are {len(texts)} queries; ask at most {MAX_QUERIES} at once.")
        # Never `parse`: it would tell strangers which files there are.
        return await answer(request, [text_query(text) for text in texts])

    async def search_by_body(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await search_by_json(request)
        if kind.startswith("image/"):
            return await answer(request, await opened([Query(UPLOADED, await _body(request, "an image"))]))
        raise HTTPException(415, "Send an image as the body, with a header such as Content-Type: image/jpeg, "
                                 "or what to search as JSON, with Content-Type: application/json.")

    async def search_by_json(request: Request) -> Response:
        if request.query_params:
            raise QueryError("Of a search in JSON everything stands in the body, and nothing behind /search.")
        queries, wanted = await run_in_threadpool(read, await _body(request, "a search"))
        if not all(query.is_text for query in queries):
            queries = await opened(queries)
        found = await asyncio.wrap_future(searcher.search(queries, wanted))
        return JSONResponse({"answers": [
            {"query": query.shown, "hits": _as_json(hits)} for query, hits in zip(queries, found)
        ]})

    async def opened(queries: Sequence[Query]) -> list[Query]:
        async with decoding:
            return await run_in_threadpool(searcher.opened, queries)

    async def answer(request: Request, queries: Sequence[Query]) -> Response:
        wanted = Wanted(_k(request), where=every(request.query_params.get("where")))
        refuse_large_k(wanted)
        found = await asyncio.wrap_future(searcher.search(queries, wanted))
        return JSONResponse({"hits": [hit for hits in found for hit in _as_json(hits)]})

    async def info(_: Request) -> Response:
        return JSONResponse(searcher.info)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    app = Starlette(
        routes=[
            Route("/search", search, methods=["GET"]),
            Route("/search", search_by_body, methods=["POST"]),
            Route("/info", info),
            Route("/health", health),
        ],
        exception_handlers={
            QueryError: _asked_wrongly, RetrievalError: _failed, HTTPException: _refused,
            ClientDisconnect: _gone, Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return app


def _k(request: Request) -> int | None:
    written = request.query_params.get("k")
    if written is None:
        return None
    try:
        return int(written)
    except ValueError:
        raise QueryError(f"k is {written!r}; it has to be a whole number.") from None


def _as_json(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [{**hit.as_json(), **addresses.position(hit.path)} for hit in hits]


async def _body(request: Request, what: str) -> bytes:
    """At most MAX_BODY bytes are ever held, whatever the header says."""
    too_large = HTTPException(413, f"The body is too large; send {what} of at most {MAX_BODY // 2**20} MiB.")
    if int(request.headers.get("content-length", 0)) > MAX_BODY:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise too_large
    return bytes(content)


async def _asked_wrongly(_: Request, error: QueryError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _refused(request: Request, error: HTTPException) -> Response:
    sentences = {
        404: "There is nothing of that name; there are /search, /info and /health.",
        405: f"{request.method} is not answered here.",
    }
    sentence = sentences.get(error.status_code, error.detail)
    return JSONResponse({"error": sentence}, error.status_code, headers=error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    """Nothing that whoever asked could mend: the reason is for the log."""
    if isinstance(error, RetrievalError):
        log.error("%s", error)
    return JSONResponse({"error": "The search failed; the server's log says why."}, 500)


async def _gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # which nobody reads
