"""Searches that a server on this machine answers, beside what `Collection.search` finds."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from retrieval.collection import Collection
from retrieval.maintain import Options, index_sources
from retrieval.query import parse
from retrieval.serve import client, running
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import Filters


@pytest.fixture
def expected(served_collection, builtin_encoder):
    """Of `Collection.search`; scores to the six digits of JSON."""
    def expected(queries, k):
        with Collection.open(served_collection, encoder=builtin_encoder) as opened:
            return [(hit.query, hit.rank, hit.id, hit.path, pytest.approx(hit.score, abs=2e-6))
                    for hit in opened.search(queries, k)]

    return expected


@pytest.mark.parametrize(("query", "said", "wanted"), [
    ("2:red car + id:coffee.png - truck", Filters(), Wanted(4)),
    ("2:red car + id:coffee.png", Filters(), Wanted(4, fusion="slerp")),
    ("id:rocket.jpg", Filters(), Wanted(4)),
    ("2:a cat + {photos}/rocket.jpg - {photos}/coffee.png", Filters(), Wanted(4, templates="on")),
    ("cat", Filters("width > 400", near=None, folders=("/",)), Wanted(4, templates="off", calibrated=False)),
    ("a cat", Filters(after="2024"), Wanted(4)),
    ("a cat", Filters(), Wanted(4, within="captions")),
    ("a cat", Filters("height > 100"), Wanted(4, refinement=Refinement(AUTO, 0.9, 0.5))),
])
def test_everything_but_reranking_is_asked(server, served_collection, served_photos, builtin_encoder, query, said, wanted):
    queries = [parse(query.format(photos=served_photos)), parse("a rocket")]
    wanted = replace(wanted, where=said.condition())
    with Collection.open(served_collection, encoder=builtin_encoder) as opened:
        right = opened.answer(queries, wanted)
    hits = client.ask_running(served_collection, queries, wanted, said)
    assert [replace(hit, score=0, relevance=None) for hit in hits] == [replace(hit, score=0, relevance=None) for hit in right]
    for hit, one in zip(hits, right):
        assert hit.score == pytest.approx(one.score, abs=2e-6)
        assert hit.relevance == (one.relevance and pytest.approx(one.relevance, abs=1e-3))


def test_a_filter_that_cannot_be_told_is_not_left_out(server, served_collection):
    wanted = Wanted(2, where=Filters("width > 100").condition())
    assert client.ask_running(served_collection, [parse("a cat")], wanted) is None


def asked(path, queries, k):
    hits = client.ask_running(path, [parse(query) for query in queries], Wanted(k))
    return hits and [(hit.query, hit.rank, hit.id, hit.path, hit.score) for hit in hits]


def test_words_and_images_in_the_order_they_were_asked(server, served_collection, served_photos, expected):
    queries = ["a cat", str(served_photos / "rocket.jpg"), "a cat", "a cup of coffee"]
    assert asked(served_collection, queries, 3) == expected(queries, 3)
    assert asked(served_collection, ["a cat"], None) == expected(["a cat"], None)


def test_more_texts_than_a_server_takes_at_once(server, served_collection, expected):
    queries = [f"{number} coins" for number in range(130)]
    assert asked(served_collection, queries, 1) == expected(queries, 1)


def test_a_collection_is_known_by_any_of_its_paths(server, served_collection, monkeypatch, expected):
    monkeypatch.chdir(served_collection.parent)
    relative = type(served_collection)(served_collection.name)
    assert asked(relative, ["a cat"], 1) == expected(["a cat"], 1)


def test_the_command_asks_and_loads_nothing_heavy(server, served_collection, expected):
    code = (
        "import sys; from retrieval.cli import cli; cli(['search', *sys.argv[1:], '-k', '2', '--json'], "
        "standalone_mode=False); print([one for one in ('numpy', 'faiss', 'sqlite3') if one in sys.modules])"
    )
    refined = ["--where", "width > 1", "--min-score=-1", "--dedup", "--diverse=1"]
    for arguments, query in ((["a cat"], "a cat"), (["2:a cat + id:coffee.png", *refined], "2:a cat + id:coffee.png")):
        command = [sys.executable, "-c", code, served_collection, *arguments]
        *hits, loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found = [json.loads(hit) for hit in hits]
        assert [(hit["query"], hit["rank"], hit["id"], hit["path"], hit["score"]) for hit in found] == expected([query], 2)
        assert loaded == "[]"


def test_mistakes_are_left_to_whoever_asked(server, served_collection):
    assert asked(served_collection, ["a cat"], 900) is None  # more than there are: Collection.search says so
    assert asked(served_collection, ["a cat"], 1001) is None
    broken = served_collection.parent / "broken.jpg"
    broken.write_bytes(b"no picture")
    assert asked(served_collection, [str(broken)], 1) is None
    assert asked(served_collection, ["a cat", "id:no.jpg"], 1) is None
    assert asked(served_collection, ["a - a"], 1) is None


def test_none_is_asked_when_none_runs(changing, server):
    assert running.find(changing) is None and asked(changing, ["a cat"], 1) is None
    with type(server)(changing) as started:
        found = running.find(changing)
        assert (found.pid, f"http://{found.host}:{found.port}") == (os.getpid(), started.address)
        assert len(asked(changing, ["a cat"], 2)) == 2
    assert running.find(changing) is None and asked(changing, ["a cat"], 1) is None


def test_another_state_of_the_collection_is_not_asked_for(changing, photo_folder, tiny_encoder, server, monkeypatch):
    monkeypatch.setattr("retrieval.serve.searcher.LOOK_SECONDS", 3600)  # it does not notice
    with type(server)(changing):
        assert asked(changing, ["a cat"], 1)
        (photo_folder / "rocket.jpg").unlink()
        index_sources([photo_folder], changing, Options(tiny_encoder.name, "cpu", "float32"))
        assert asked(changing, ["a cat"], 1) is None


@pytest.fixture
def quiet(collection_of_words, photo_folder, tmp_path):
    """A collection that no server serves."""
    return collection_of_words(tmp_path / "photos.collection", {photo_folder / "rocket.jpg": "a rocket"})


def record(path, **changes):
    known = {"collection": str(path), "host": "127.0.0.1", "port": 9, "pid": os.getpid(),
             "machine": running.platform.node(), "started_at": "2026-01-01T00:00:00+00:00"}
    file = running._file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**known, **changes}))
    return file


def test_records_that_servers_left_when_they_were_killed(quiet):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    record(quiet, pid=int(ended.stdout))
    assert running.find(quiet) is None
    record(quiet, machine="another one")
    assert running.find(quiet) is None
    record(quiet).write_text("{")
    assert running.find(quiet) is None
    record(quiet)  # its number is another process's by now
    assert running.find(quiet).port == 9 and asked(quiet, ["a cat"], 1) is None


def test_who_does_not_answer_is_not_waited_for(quiet):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        record(quiet, port=silent.getsockname()[1])
        assert asked(quiet, ["a cat"], 1) is None


def test_a_server_of_something_else_is_not_asked(quiet, server):
    record(quiet, port=int(server.address.rpartition(":")[2]))
    assert asked(quiet, ["a cat"], 1) is None


def test_the_latest_record_stays_when_an_earlier_server_ends(quiet):
    with running.recorded(quiet, "0.0.0.0", 8000):
        assert running.find(quiet).host == "127.0.0.1"
        with running.recorded(quiet, "::", 8001):
            pass
        assert running.find(quiet) is None
        record(quiet, port=8002)
    assert running.find(quiet).port == 8002
