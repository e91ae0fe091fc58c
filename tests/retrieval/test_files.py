import json
import os
import stat
from pathlib import Path

import pytest

from retrieval.files import cache_folder, obstacle, sync_folder, write_atomically, write_json


def test_new_and_replaced_content(tmp_path):
    path = tmp_path / "notes.txt"
    write_atomically(path, b"first, and longer")
    assert path.read_bytes() == b"first, and longer"
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_content(tmp_path, monkeypatch, step):
    path = tmp_path / "notes.txt"
    write_atomically(path, b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_content_is_on_disk_before_it_takes_the_name_and_the_name_after(tmp_path, monkeypatch):
    steps = []
    fsync, rename = os.fsync, os.replace

    def noted(handle):
        status = os.fstat(handle)
        steps.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("replace"), rename(*names)))
    write_atomically(tmp_path / "notes.txt", b"seven b")
    assert steps == [7, "replace", "folder"]


def test_a_folder_that_cannot_be_flushed_is_left_to_the_system(tmp_path):
    sync_folder(tmp_path / "gone")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "gone" / "notes.txt", b"")


def test_json_is_utf8_and_readable(tmp_path):
    content = {"name": "café 日本", "rows": [1, None]}
    write_json(tmp_path / "a.json", content)
    written = (tmp_path / "a.json").read_bytes()
    assert json.loads(written) == content
    assert written.startswith('{\n  "name": "café 日本",\n'.encode()) and written.endswith(b"}\n")


def test_cache_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("RETRIEVAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "retrieval"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RETRIEVAL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OSError, match="no home folder.* Set RETRIEVAL_CACHE"):
        cache_folder()


def test_what_stands_in_the_way_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("")
    assert obstacle(tmp_path / "new") is None and obstacle(tmp_path / "new" / "nested" / "r.html") is None
    assert obstacle(tmp_path / "notes.txt" / "r.html") == f"{tmp_path / 'notes.txt'} is a file"
    assert obstacle(tmp_path / "notes.txt") is None  # to be written over
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert obstacle(tmp_path / "new" / "r.html") == f"no leave to write in {tmp_path}"
