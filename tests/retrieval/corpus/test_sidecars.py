import json
import logging

import pytest

from retrieval.corpus.sidecars import MOST_BYTES, Sidecars
from retrieval.errors import NOTICE


def captions(image="x/a.jpg", **files):
    """Of an image beside x/a.txt and x/a.json with these contents."""
    contents = {f"x/a.{suffix}": content for suffix, content in files.items()}
    contents = {name: content.encode() if isinstance(content, str) else content for name, content in contents.items()}
    return Sidecars().captions(image, contents, contents.__getitem__)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"txt": "a dog\n\n  two dogs \r\n"}, ("a dog", "two dogs")),
        ({"txt": "\ufeffein Hund"}, ("ein Hund",)),
        ({"txt": "犬が走る\n🐶"}, ("犬が走る",)),
        ({"txt": "0 0.5 0.5 0.1 0.2\n1 0.1 0.1 0.3 0.3"}, None),  # boxes
        ({"txt": ""}, ()),
        ({"txt": "0 0.5 0.5", "json": '{"caption": "half \\ud83d a dog"}'}, ("half ? a dog",)),
        ({"json": '{"caption": " a dog ", "width": 3}'}, ("a dog",)),
        ({"json": '{"captions": ["a dog", 7, "", "a cat"]}'}, ("a dog", "a cat")),
        ({"json": '{"text": "a dog"}'}, ("a dog",)),
        ({"json": '{"title": "a.jpg"}'}, None),
        ({"json": '["a dog"]'}, None),
        ({"json": "no json"}, None),
        ({"json": "[" * 50_000}, None),
        ({"txt": "a dog", "json": '{"caption": "a dog", "text": "in the snow"}'}, ("a dog", "in the snow")),
    ],
)
def test_what_counts_as_captions(files, expected):
    assert captions(**files) == expected


def test_of_other_names_nothing_is_taken():
    assert captions("x/b.jpg", txt="a dog") is None
    assert captions("a.jpg", txt="a dog") is None
    assert captions("x/a.b.jpg", txt="a dog") is None


@pytest.mark.parametrize("content", [b"caf\xe9", b"a" * (MOST_BYTES + 1)], ids=["latin1", "large"])
def test_what_is_no_caption_is_counted(content, caplog):
    sidecars = Sidecars()
    assert sidecars.captions("a.jpg", {"a.txt"}, lambda name: content) is None
    with caplog.at_level(NOTICE, "retrieval"):
        sidecars.tell("/photos")
    assert [record.levelno for record in caplog.records] == [NOTICE]
    assert "1 files beside images in /photos are no captions" in caplog.text and "such as a.txt" in caplog.text


def test_one_that_cannot_be_opened_is_counted(caplog):
    def refuse(name):
        raise PermissionError(13, "Permission denied", name)

    caplog.set_level(NOTICE)
    sidecars = Sidecars()
    assert sidecars.captions("a.jpg", {"a.txt"}, refuse) is None
    sidecars.tell("/photos")
    assert "such as a.txt" in caplog.text


def test_nothing_is_said_when_all_is_well(caplog):
    caplog.set_level(logging.DEBUG)
    sidecars = Sidecars()
    sidecars.captions("a.jpg", {"a.json"}, lambda name: json.dumps({"taken": 1}).encode())
    sidecars.tell("/photos")
    assert caplog.text == ""
