"""Text queries over HTTP, by many clients at once.

Real connections over loopback; the clients are a process of their own, on the same cores. Ours is
`retrieval serve`. The peer is what one writes first: open_clip in float32, a flat FAISS index and the
same kind of web server, each request embedding its own text in a thread of the server's pool. Weights
and vectors are the same, and both have to find the images that exact search in numpy finds.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.collections import made_up_path, make_up
from benchmarks.http_load import load
from benchmarks.kept import edition, kept
from benchmarks.models import BUILTIN, CAPTIONS, plain_open_clip

SHOWN = ("p50_ms", "p99_ms")
PEER = "open_clip, faiss, one at a time"
NEEDS = {"starlette": "starlette", "uvicorn": "uvicorn"}


def cases(quick: bool) -> list[Case]:
    settings = {"model": BUILTIN, "vectors": 500 if quick else 20_000, "k": 10, "requests": 64 if quick else 256}
    return [
        Case(
            name="1 client" if clients == 1 else f"{clients} clients at once",
            settings={**settings, "concurrency": clients},
            contenders={
                "ours": Contender(ours, ours=True, needs=NEEDS),
                PEER: Contender(one_at_a_time, needs=NEEDS),
            },
            unit="queries_per_second", better="higher", baseline=PEER, most_repeats=3,
            agree={"recall": 0.005},
        )
        for clients in ((8,) if quick else (1, 8, 32))
    ]


def ours(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.serve import serve

    made = _made(settings, work)
    addresses: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    def tell(address: str, _: int) -> None:
        addresses.append(address)
        ready.set()

    def run() -> None:
        try:
            serve(made / "photos.collection", port=0, stop=stop, on_ready=tell)
        finally:
            ready.set()

    threading.Thread(target=run, daemon=True).start()
    ready.wait()
    return _measure(settings, made, addresses[0])


def one_at_a_time(settings: Mapping[str, Any], work: Path) -> Measure:
    import socket

    import faiss
    import numpy as np
    import torch
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    made = _made(settings, work)
    model, _, tokenize = plain_open_clip(settings["model"], work)
    device = next(model.parameters()).device
    vectors = np.load(made / "vectors.npy")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    paths = [made_up_path(row) for row in range(len(vectors))]

    @torch.no_grad()
    def search(request):  # not async: the server calls it in a thread of its pool
        text = request.query_params["q"]
        features = torch.nn.functional.normalize(model.encode_text(tokenize([text]).to(device)), dim=-1)
        scores, rows = index.search(features.cpu().numpy(), int(request.query_params["k"]))
        return JSONResponse({"hits": [
            {"query": text, "rank": rank, "score": score, "id": str(row), "path": paths[row]}
            for rank, (score, row) in enumerate(zip(scores[0].tolist(), rows[0].tolist()), 1)
        ]})

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as uvicorn's own sockets have it
    app = Starlette(routes=[Route("/search", search)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    return _measure(settings, made, f"http://127.0.0.1:{listening.getsockname()[1]}")


def recall(found: list[list[str]], expected: list[list[str]]) -> float:
    """The share of the expected ids that were found, text by text."""
    hits = sum(len(set(one) & set(right)) for one, right in zip(found, expected))
    return hits / sum(map(len, expected))


def _measure(settings: Mapping[str, Any], made: Path, address: str) -> Measure:
    expected = json.loads((made / "expected.json").read_text())

    def measure() -> Metrics:
        metrics = load(
            address, CAPTIONS, k=settings["k"], requests=settings["requests"], concurrency=settings["concurrency"]
        )
        return {"recall": recall(metrics.pop("found"), expected), **metrics}

    return measure


def _made(settings: Mapping[str, Any], work: Path) -> Path:
    """A folder with a collection, its vectors as float32, and what exact search finds in them."""
    name = f"server-{settings['model']}-{settings['vectors']}-{settings['k']}-{edition()}"
    return kept(work / name, lambda folder: _in_a_process(_make, folder, dict(settings)))


def _in_a_process(function: Any, *arguments: Any) -> None:
    """What it loads shall not count as the memory of a server."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


def _make(folder: Path, settings: Mapping[str, Any]) -> None:
    import numpy as np

    from retrieval.collection import Collection
    from retrieval.encoders import load_encoder
    from retrieval.manifest import EncoderRecord

    encoder = load_encoder(settings["model"])
    path = folder / "photos.collection"
    make_up(path, settings["vectors"], EncoderRecord(encoder.name, encoder.dim, encoder.fingerprint))
    with Collection.open(path, encoder=encoder) as collection:
        vectors = collection.vectors.take(np.arange(settings["vectors"]))  # (n, d) as they were rounded
    np.save(folder / "vectors.npy", vectors)
    best = np.argsort(-(encoder.encode_texts(CAPTIONS) @ vectors.T), axis=1)[:, : settings["k"]]  # (texts, k)
    (folder / "expected.json").write_text(json.dumps([[str(row) for row in rows] for rows in best]))
