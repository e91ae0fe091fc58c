"""Interrupting, watching, compacting and forgetting, as commands."""

import os
import signal
import subprocess
import sys

import pytest

from retrieval import ingest

INTERRUPTED = """if True:
    import os, signal, sys
    from retrieval import ingest
    commit = ingest.Catalog.commit
    def interrupted(*batch):
        for _ in range(int(os.environ["PRESSES"])):
            os.kill(os.getpid(), signal.SIGINT)
        commit(*batch)
    ingest.Catalog.commit = interrupted
    from retrieval.cli import main
    main()
"""


def interrupted(presses, *arguments):
    """A command that Ctrl-C meets while it commits its first batch."""
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "PRESSES": str(presses)},
    )


@pytest.mark.parametrize(("presses", "kept"), [(1, 2), (2, 0)])
def test_the_first_interrupt_commits_the_batch_in_hand_the_second_ends_at_once(
    run, photo_folder, tiny_model, tmp_path, presses, kept
):
    path = tmp_path / "c.collection"
    done = interrupted(presses, "index", photo_folder, "-o", path, "-m", tiny_model, "--batch-size", 2)
    assert (done.returncode, done.stdout) == (130, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "Finishing the batch in hand; press Ctrl-C again to end at once."
    assert "Run the same command again to go on from what was committed." in lines[-1]
    if kept:
        assert lines[-1].startswith(f"Interrupted. {path} holds 2 images now.")
        assert len(run("search", path, "a cat", "--json").objects) == 2
    assert path.exists() == bool(kept)
    (report,) = run("index", photo_folder, "-o", path, "-m", tiny_model, "--json").objects
    assert (report["images"], report["encoded"]) == (6, 6 - kept)


IN_PROCESSES = """if True:
    from retrieval import decoding, reading
    from retrieval.encoders.openclip import OpenClipEncoder
    reading.CORES, reading.PROCESSES_FILES, OpenClipEncoder.is_fast = 4, 1, True
    start = decoding.Workers._start
    def started(self):
        process = start(self)
        print("started", process.pid, file=sys.stderr)
        return process
    decoding.Workers._start = started
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_an_interrupt_leaves_no_process_that_decodes(run, photo_folder, tiny_model, tmp_path):
    """Ctrl-C at a terminal goes to all processes of the group."""
    path = tmp_path / "c.collection"
    code = INTERRUPTED.replace("os.kill(os.getpid(),", "os.killpg(0,").replace(
        "    from retrieval import ingest\n", f"    from retrieval import ingest\n    exec({IN_PROCESSES!r})\n")
    done = subprocess.run(
        [sys.executable, "-c", code, "index", photo_folder, "-o", path, "-m", tiny_model, "--batch-size", "2"],
        capture_output=True, text=True, env={**os.environ, "PRESSES": "1"}, start_new_session=True,
    )
    pids = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("started")]
    assert pids and done.returncode == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert "Traceback" not in done.stderr and "that was to decode" not in done.stderr
    (report,) = run("index", photo_folder, "-o", path, "-m", tiny_model, "--json").objects
    assert (report["images"], report["encoded"]) == (6, 4)


def test_handlers_are_put_back(run, collection, photo_folder):
    before = signal.getsignal(signal.SIGINT)
    assert run("index", photo_folder, "-o", collection).status == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_index_tells_what_moved_and_what_was_reused(run, collection, photo_folder):
    (photo_folder / "rocket.jpg").rename(photo_folder / "moon.jpg")
    (photo_folder / "copy.png").write_bytes((photo_folder / "coffee.png").read_bytes())
    (report,) = run("index", photo_folder, "-o", collection, "--json").objects
    assert {name: report[name] for name in ("encoded", "unchanged", "moved", "reused", "dropped")} == {
        "encoded": 0, "unchanged": 5, "moved": 1, "reused": 1, "dropped": 0}
    assert "  moved          0\n" in run("index", photo_folder, "-o", collection).out


def test_retry_failed(run, collection, photo_folder, monkeypatch):
    (photo_folder / "bad.jpg").write_text("no image")
    run("index", photo_folder, "-o", collection)
    read = []
    open_image = ingest.read_ahead.__globals__["open_image"]
    monkeypatch.setattr("retrieval.reading.open_image", lambda content: read.append(content) or open_image(content))
    for options, tried in (([], 0), (["--retry-failed"], 1)):
        done = run("index", photo_folder, "-o", collection, *options)
        assert done.status == 0 and "bad.jpg: not an image" in done.err and len(read) == tried


def test_dead_rows_are_told_and_compacted(run, collection, photo_folder):
    assert run("info", collection, "--json").objects[0]["dead_rows"] == 0
    (photo_folder / "rocket.jpg").unlink()
    run("index", photo_folder, "-o", collection)
    info = run("info", collection)
    assert "dead rows    1 of 6" in info.out and "compact" not in info.err  # 17 %
    (photo_folder / "coffee.png").unlink()
    run("index", photo_folder, "-o", collection)
    info = run("info", collection)
    assert "dead rows    2 of 6" in info.out and f"retrieval compact {collection}" in info.err
    before = run("search", collection, "a cat", "--json").out
    (report,) = run("compact", collection, "--json").objects
    assert report == {"collection": str(collection), "rows": 4, "dropped_rows": 2, "freed_bytes": 2 * 2 * 32}
    assert run("search", collection, "a cat", "--json").out == before
    assert run("info", collection, "--json").objects[0]["dead_rows"] == 0
    assert "dead rows dropped  0" in run("compact", collection).out


def test_forget(run, collection, photo_folder):
    done = run("forget", collection, photo_folder / "2019", "--json")
    assert done.objects == [{"collection": str(collection), "dropped": 1}]
    assert len(run("search", collection, "a cat", "--json").objects) == 5
    done = run("forget", collection, photo_folder / "2019")
    assert done.status == 1 and f"holds nothing at or below {photo_folder / '2019'}" in done.err


@pytest.mark.parametrize("command", ["compact", "forget"])
def test_without_a_collection(run, tmp_path, command):
    done = run(command, tmp_path / "no.collection", *([tmp_path] if command == "forget" else []))
    assert done.status == 1 and "no collection at" in done.err
    assert list(tmp_path.iterdir()) == [] or not (tmp_path / "no.collection").exists()


def test_watch_ends_cleanly(run, photo_folder, tiny_model, tmp_path):
    pytest.importorskip("watchfiles")
    path = tmp_path / "c.collection"
    command = [sys.executable, "-m", "retrieval", "watch", photo_folder, "-o", path, "-m", tiny_model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline() == f"{path}: 6 images; 6 encoded\n"
            (photo_folder / "rocket.jpg").unlink()
            assert process.stderr.readline() == f"{path}: 5 images; 1 dropped\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "Ending.\n")
    assert len(run("search", path, "a cat", "--json").objects) == 5
