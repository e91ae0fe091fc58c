import os

import pytest

from retrieval.corpus.addresses import absolute, is_missing, read, starts_within
from retrieval.errors import ImageError


def test_files_and_members(tmp_path, tar, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg("red"))
    path = tar(tmp_path / "photos.tar", {"x/a.jpg": jpeg("blue")})
    assert read(str(tmp_path / "a.jpg")) == jpeg("red")
    assert read(f"{path}#x/a.jpg") == jpeg("blue")


def test_a_file_with_a_mark_in_its_name_comes_first(tmp_path, tar, jpeg):
    (tmp_path / "photos.tar#a.jpg").write_bytes(jpeg("red"))
    path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg("blue")})
    assert read(f"{path}#a.jpg") == jpeg("red")
    (tmp_path / "holiday #3").mkdir()
    path = tar(tmp_path / "holiday #3" / "photos#.tar", {"a #1.jpg": jpeg("green")})
    assert read(f"{path}#a #1.jpg") == jpeg("green")


@pytest.mark.parametrize(("address", "reason"), [
    ("gone.jpg", "cannot be read: No such file or directory"),
    ("gone.tar#a.jpg", "cannot be read: No such file or directory"),
    ("a.jpg#b.jpg", "cannot be read: No such file or directory"),
    ("photos.tar#gone.jpg", "no longer in its archive"),
    ("broken.zip#a.jpg", "damaged, cut short, or no zip file (File is not a zip file)"),
])
def test_reasons(tmp_path, tar, jpeg, address, reason):
    tar(tmp_path / "photos.tar", {"a.jpg": jpeg()})
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "broken.zip").write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        read(str(tmp_path / address))
    assert str(caught.value) == reason


@pytest.mark.parametrize(("address", "missing"), [
    ("a.jpg", False), ("gone.jpg", True), ("photos.tar#a.jpg", False), ("photos.tar#b.jpg", True),
    ("gone.tar#a.jpg", True), ("broken.zip#a.jpg", False), ("a.jpg/b.jpg", True),
])
def test_what_is_missing(tmp_path, tar, jpeg, address, missing):
    tar(tmp_path / "photos.tar", {"a.jpg": jpeg()})
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "broken.zip").write_bytes(b"x")  # what it held is not known
    assert is_missing(str(tmp_path / address)) is missing


def test_of_other_machines_nothing_is_certain():
    assert not is_missing("https://127.0.0.1:1/gone.jpg") and not is_missing("memory://gone/gone.jpg")


def test_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("x/../a.jpg") == os.path.join(os.getcwd(), "a.jpg")
    assert absolute("a.jpg", "/photos") == "/photos/a.jpg"
    assert absolute("https://host/x/") == "https://host/x/"
    assert absolute("file:///a%20b.jpg") == "/a b.jpg" == absolute("FILE://localhost/a%20b.jpg")


def test_a_folders_neighbours_are_no_part_of_it(tmp_path):
    (tmp_path / "photos.v2").mkdir()
    assert starts_within(["/p/photos", "/p/x.tar", "/", str(tmp_path / "photos.v2")]) == (
        "/p/photos/", "/p/x.tar/", "/p/x.tar#", "/", f"{tmp_path}/photos.v2/",
    )
