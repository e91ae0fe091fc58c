"""Clients of a search server, in a process of their own: what they measure is told as JSON.

    python -m benchmarks.http_load http://127.0.0.1:8000 < {"texts": [...], "k": 10, "requests": 256, "concurrency": 8}
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from itertools import count
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.machine import ROOT
from benchmarks.timing import percentile


def load(address: str, texts: Sequence[str], *, k: int, requests: int, concurrency: int) -> dict[str, Any]:
    """Ask GET /search?q=TEXT&k=K, `requests` times in all, going round the texts.

    concurrency  clients, each with a connection that it keeps, and never without a request under way

    Returns queries_per_second, p50_ms, p99_ms, and found: the ids that came for each text.
    Raises RuntimeError if a request fails.
    """
    asked = {"texts": list(texts), "k": k, "requests": requests, "concurrency": concurrency}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_load", address], input=json.dumps(asked),
        capture_output=True, text=True, cwd=ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"the clients failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def _load(address: str, texts: Sequence[str], k: int, requests: int, concurrency: int) -> dict[str, Any]:
    numbers = count()
    start = threading.Barrier(concurrency + 1)
    taken: list[float] = []
    found: dict[int, list[str]] = {}
    failures: list[str] = []

    def ask() -> None:
        connection = HTTPConnection(urlsplit(address).netloc)
        connection.connect()
        start.wait()
        try:
            while (number := next(numbers)) < requests:
                place = number % len(texts)
                begun = time.perf_counter()
                connection.request("GET", "/search?" + urlencode({"q": texts[place], "k": k}))
                answer = connection.getresponse()
                content = answer.read()
                taken.append(1000 * (time.perf_counter() - begun))
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {content[:200]!r}")
                found[place] = [hit["id"] for hit in json.loads(content)["hits"]]
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(concurrency)]
    for client in clients:
        client.start()
    start.wait()
    begun = time.perf_counter()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - begun
    if failures:
        raise RuntimeError(failures[0])
    return {
        "queries_per_second": requests / seconds,
        **{f"p{percent}_ms": percentile(taken, percent) for percent in (50, 99)},
        "found": [found[place] for place in sorted(found)],
    }


if __name__ == "__main__":
    print(json.dumps(_load(sys.argv[1], **json.load(sys.stdin))))
