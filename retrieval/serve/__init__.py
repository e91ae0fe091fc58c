"""Serving a collection over HTTP, with encoder and index loaded once."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path
from types import ModuleType
from typing import Callable

from retrieval.errors import ServeError

LEAVE_SECONDS = 10  # for answers that are under way when the server is to end


def serve(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    precision: str = "auto",
    stop: threading.Event,
    on_ready: Callable[[str, int], None],
) -> None:
    """Answer requests about the collection at `path` until `stop` is set. See `retrieval.serve.app`.

    port      0 takes a free one
    on_ready  told the address (http://host:port) and how many images there are, once all is loaded

    Raises ServeError for an address that cannot be had, or without the packages it takes, and what
    opening a collection and loading its encoder raises.
    """
    uvicorn = _uvicorn()
    from retrieval.serve.app import make_app
    from retrieval.serve.running import recorded
    from retrieval.serve.searcher import Searcher

    # First the address, for that is quick to fail. Who connects while the encoder is loaded waits.
    with _listen(host, port) as listening, Searcher(path, device=device, precision=precision) as searcher:
        server = uvicorn.Server(uvicorn.Config(
            make_app(searcher), log_config=None, log_level="warning", access_log=False,
            server_header=False, lifespan="off", ws="none", timeout_graceful_shutdown=LEAVE_SECONDS,
        ))

        def run() -> None:
            try:
                server.run(sockets=[listening])
            finally:
                stop.set()

        # In a thread of its own uvicorn leaves the signals to whoever sets `stop`.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        port = listening.getsockname()[1]
        with recorded(path, host, port):
            on_ready(f"http://{shown}:{port}", searcher.info["images"])
            stop.wait()
        server.should_exit = True
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    if not host:  # would be every address there is
        raise ServeError("The host is empty. Give an address: --host 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"Port {port} of {host} is in use. Choose another one: --port N; --port 0 takes any that is free."
            ) from error
        reason = str(error.strerror).partition(" (while")[0]  # where it happened, in Python's own words
        raise ServeError(
            f"Cannot listen on {host}, port {port}: {reason}. Choose others with --host and --port."
        ) from error
    # Connections inherit it. Without, asyncio's header and body wait 40 ms for each other (delayed ACK).
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _uvicorn() -> ModuleType:
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ServeError(
            "Serving needs the packages starlette and uvicorn. Install them: "
            "pip install 'crossmodal-retrieval[serve]'"
        ) from error
    return uvicorn
