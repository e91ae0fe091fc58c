import io
import os

import pytest

from retrieval.corpus.listing import named, scan
from retrieval.errors import NOTICE, CorpusError


@pytest.fixture
def listed(lay_out):
    """listed(b"a.jpg\\n") is what that list finds, relative paths below a folder with some images."""
    root = lay_out({"a.jpg": None, "b/c.jpg": None, "noname": None, "notes.txt": "x"})

    def listed(content):
        return scan(io.BytesIO(content), str(root))

    listed.root = root
    return listed


def test_one_path_a_line(listed):
    result = listed(b"a.jpg\r\n\n./b/../b/c.jpg\n" + os.fsencode(listed.root / "a.jpg") + b"\n")
    assert [(image.state.path, image.relative) for image in result.images] == [
        (str(listed.root / "a.jpg"), "a.jpg"), (str(listed.root / "b" / "c.jpg"), "b/c.jpg"),
    ]
    status = (listed.root / "a.jpg").stat()
    assert (result.images[0].state.size, result.images[0].state.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (result.unreadable, result.roots) == ([], [])


def test_between_nul_bytes(listed):
    (listed.root / "two\nlines.jpg").write_bytes(b"x")
    assert [image.relative for image in listed(b"a.jpg\0two\nlines.jpg\0").images] == ["a.jpg", "two\nlines.jpg"]


def test_what_is_not_there_is_named(listed):
    result = listed(b"gone.jpg\na.jpg\na.jpg/x.jpg\n")
    assert [image.relative for image in result.images] == ["a.jpg"]
    assert result.unreadable == [
        (str(listed.root / "gone.jpg"), "does not exist"), (str(listed.root / "a.jpg" / "x.jpg"), "does not exist"),
    ]


def test_folders_and_other_files_are_passed_over_and_counted(listed, caplog):
    caplog.set_level(NOTICE)
    assert [image.relative for image in listed(b".\nb\nnotes.txt\nnoname\n").images] == ["noname"]
    assert "Passed over 3 entries of the list" in caplog.text
    assert [record.levelno for record in caplog.records] == [NOTICE]


def test_uris_and_members_of_archives(listed, tar, jpeg):
    tar(listed.root / "x.tar", {"in/a.jpg": jpeg("red")})
    result = listed(b"https://host/x/a.jpg?size=2\nx.tar#in/a.jpg\nx.tar#gone.jpg\nhttps://host/x/a.jpg?size=2\n")
    link, member = result.images
    assert (link.state.path, link.state.size, link.state.mtime_ns) == ("https://host/x/a.jpg?size=2", -1, 0)
    assert link.relative == "a.jpg?size=2"
    assert (member.relative, member.state.size) == ("x.tar#in/a.jpg", len(jpeg("red")))
    assert result.unreadable == [(f"{listed.root}/x.tar#gone.jpg", "does not exist")]


def test_ids_begin_where_the_paths_elsewhere_part(listed, tmp_path):
    images = scan(io.BytesIO(f"{listed.root}/a.jpg\n{listed.root}/b/c.jpg".encode()), str(tmp_path / "here")).images
    assert [(str(image.root), image.relative) for image in images] == [
        (str(listed.root), "a.jpg"), (str(listed.root), "b/c.jpg"),
    ]


def test_a_file_uri_is_a_path(listed):
    [image] = listed(f"file://{listed.root}/a.jpg\n{listed.root}/a.jpg\n".encode()).images
    assert image.state.path == str(listed.root / "a.jpg")


def test_a_name_that_is_not_utf8_is_named(listed):
    result = listed(b"caf\xe9.jpg\n")
    assert result.images == []
    assert result.unreadable == [(f"{listed.root}/caf\\xe9.jpg", "the file name is not valid UTF-8; rename it")]


def test_a_name_with_a_nul_is_named(listed):
    [(_, reason)] = named([("a\0.jpg", None)], str(listed.root)).unreadable
    assert reason.startswith("cannot be read: ")


def test_captions_of_one_image_come_together_once(listed):
    rows = [("a.jpg", ["one"]), ("b/c.jpg", []), ("./a.jpg", ["two", "one"]), ("noname", None)]
    assert [image.captions for image in named(rows, str(listed.root)).images] == [("one", "two"), (), None]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_list(listed, content):
    with pytest.raises(CorpusError, match="^The list of images is empty. Give paths or URIs, one a line"):
        listed(content)
