import socket
import sys
import threading

import pytest

from retrieval.errors import CollectionNotFoundError, ServeError
from retrieval.serve import serve


def refused(path, **where):
    with pytest.raises(ServeError) as caught:
        serve(path, stop=threading.Event(), on_ready=print, **where)
    return str(caught.value)


def test_a_port_in_use_is_told_before_anything_is_opened(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert refused(tmp_path / "nothing.collection", port=port) == (
            f"Port {port} of 127.0.0.1 is in use. Choose another one: --port N; --port 0 takes any that is free."
        )


def test_a_host_that_is_none_of_this_machines(tmp_path):
    assert refused(tmp_path, host="192.0.2.1", port=0).startswith("Cannot listen on 192.0.2.1, port 0: ")
    assert refused(tmp_path, host="") == "The host is empty. Give an address: --host 127.0.0.1"


def test_no_collection_leaves_the_port_free(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(CollectionNotFoundError):
        serve(tmp_path / "nothing.collection", port=port, stop=threading.Event(), on_ready=print)
    socket.create_server(("127.0.0.1", port)).close()


def test_over_ipv6(changing, server):
    started = type(server)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with started(changing, host="::1") as running:
        assert running.address.startswith("http://[::1]:") and running.images == 6
        assert running.ask("/info")[1]["images"] == 6


def test_when_it_has_ended_nobody_answers(changing, server):
    started = type(server)
    with started(changing) as running:
        kept_alive = running.connect()
        kept_alive.request("GET", "/health")
        kept_alive.getresponse().read()
    with pytest.raises(ConnectionError):
        running.ask("/health")
    kept_alive.close()


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_the_packages_their_extra_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'crossmodal-retrieval[serve]'" in refused(tmp_path)
