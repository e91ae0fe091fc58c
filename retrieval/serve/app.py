"""What the server answers to HTTP requests: JSON throughout, and nothing from the disk but hits."""

from __future__ import annotations

import asyncio
import logging
from typing import Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retrieval.corpus import addresses
from retrieval.errors import QueryError, RetrievalError
from retrieval.query import Query, text_query
from retrieval.serve.searcher import Searcher
from retrieval.where import every

log = logging.getLogger("retrieval")

# What one request may ask, so that nobody keeps all others waiting.
MAX_QUERIES = 64
MAX_K = 1000
MAX_BODY = 32 * 2**20  # bytes
DECODED_AT_ONCE = 2  # images; a large one takes much memory


def make_app(searcher: Searcher) -> Starlette:
    """GET /search?q=WORDS&k=10&where=FILTER, POST /search with an image as the body, GET /info, GET /health."""
    decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    async def search(request: Request) -> Response:
        texts = request.query_params.getlist("q")
        if not texts:
            raise QueryError("There is no query. Say what to look for: /search?q=a+dog&q=a+cat&k=10")
        if len(texts) > MAX_QUERIES:
            raise QueryError(f"These are {len(texts)} queries; ask at most {MAX_QUERIES} at once.")
        # Never `parse`: it would tell strangers which files there are.
        return await answer(request, [text_query(text) for text in texts])

    async def search_by_image(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("image/"):
            raise HTTPException(415, "Send an image as the body, with a header such as Content-Type: image/jpeg.")
        content = await _body(request)
        async with decoding:
            query = await run_in_threadpool(searcher.image_query, content)
        return await answer(request, [query])

    async def answer(request: Request, queries: Sequence[Query]) -> Response:
        where = every(request.query_params.get("where"))
        hits = await asyncio.wrap_future(searcher.search(queries, _k(request), where))
        return JSONResponse({"hits": [{**hit.as_json(), **addresses.position(hit.path)} for hit in hits]})

    async def info(_: Request) -> Response:
        return JSONResponse(searcher.info)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    app = Starlette(
        routes=[
            Route("/search", search, methods=["GET"]),
            Route("/search", search_by_image, methods=["POST"]),
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
        k = int(written)
    except ValueError:
        raise QueryError(f"k is {written!r}; it has to be a whole number.") from None
    if k > MAX_K:
        raise QueryError(f"k is {k}; this server gives at most {MAX_K} results a query.")
    return k


async def _body(request: Request) -> bytes:
    """At most MAX_BODY bytes are ever held, whatever the header says."""
    too_large = HTTPException(413, f"The body is too large; send an image of at most {MAX_BODY // 2**20} MiB.")
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
