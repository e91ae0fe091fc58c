import pytest

from benchmarks.kept import kept, remove


def test_made_once(tmp_path):
    made = []

    def make(path):
        made.append(path.name)
        path.write_text(f"version {len(made)}")

    for _ in range(2):
        assert kept(tmp_path / "a" / "file", make).read_text() == "version 1"
    assert len(made) == 1


def test_what_is_half_made_is_not_kept(tmp_path):
    def make(folder):
        folder.mkdir()
        (folder / "first").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "folder", make)
    assert list(tmp_path.iterdir()) == []


def test_remove_takes_files_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file", "nothing"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
