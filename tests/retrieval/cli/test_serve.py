"""The real command in a process of its own."""

import json
import re
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

pytest.importorskip("uvicorn")


def test_serves_until_it_is_told_to_end(run, collection, photo_folder, monkeypatch):
    command = [sys.executable, "-m", "retrieval", "serve", str(collection), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            found = re.fullmatch(
                rf"Serving 6 images of {collection} at (http://127\.0\.0\.1:\d+)\. Ctrl-C ends it\.\n", line
            )
            assert found, line + process.stderr.read()
            with urlopen(f"{found[1]}/search?q=a+cat&q=a+rocket&k=2", timeout=60) as answer:
                hits = json.load(answer)["hits"]
            with monkeypatch.context() as nothing_is_loaded:
                nothing_is_loaded.setattr("retrieval.collection.Collection.open", None)
                command = ("search", collection, "a cat", "a rocket", "-k", 2, "--json", "--precision", "auto")
                assert run(*command).objects == hits
                with pytest.raises(TypeError):
                    run(*command, "--no-server")
                with pytest.raises(TypeError):  # not what the server runs with
                    run(*command, "--precision", "float32")
                some = run(*command, "--where", "width > 500", "--in-folder", photo_folder, "--diverse")
                assert (some.err, len(some.objects)) == ("", 4)
                high = run(*command, "--min-score", "0.99")
                assert (high.out, high.err.splitlines()) == ("", [
                    f"Nothing scores high enough for {query!r}. See what comes nearest: leave out --min-score."
                    for query in ("a cat", "a rocket")])
                for more in (["--where", "width > 100000"], ["--rerank", "builtin"]):  # has to be looked at here
                    with pytest.raises(TypeError):
                        run(*command, *more)
            with monkeypatch.context() as nothing_is_searched:
                nothing_is_searched.setattr("retrieval.collection.Collection.answer", None)
                for more in ([], ["--min-score", "0.99"]):
                    none = run(*command, "--where", "width > 100000", *more)
                    assert (none.out, none.err) == ("", f"No image of {collection} passes the filter.\n")
                high = run(*command, "--where", "width > 500", "--min-score", "0.99")
                assert len(high.err.splitlines()) == 2 and high.err.startswith("Nothing scores high enough for 'a cat'.")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "Ending.\n")
    printed = run("search", collection, "a cat", "a rocket", "-k", 2, "--json").objects
    assert [hit.pop("score") for hit in hits] == pytest.approx([hit.pop("score") for hit in printed], abs=2e-6)
    assert hits == printed


def test_mistakes_in_a_sentence(run, collection, tmp_path):
    done = run("serve", tmp_path / "nothing.collection", "--port", 0)
    assert (done.status, done.out) == (1, "") and done.err.startswith("Error: There is no collection at")
    done = run("serve", collection, "--host", "192.0.2.1")
    assert (done.status, done.out) == (1, "") and done.err.startswith("Error: Cannot listen on 192.0.2.1, port 8000")
    assert run("serve", collection, "--port", 65536).status == 2
