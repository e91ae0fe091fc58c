"""Against fsspec's own file system in memory; links to the web: see test_web."""

import time

import fsspec
import pytest

from retrieval.corpus import remote
from retrieval.corpus.remote import is_uri, named, read, scan
from retrieval.errors import CorpusError, ImageError


@pytest.fixture
def bucket(jpeg):
    """memory://bucket with three images and other things"""
    system = fsspec.filesystem("memory")
    for name, content in {
        "z.jpg": jpeg("red"), "x/a.PNG": jpeg("blue"), "x/y/b c#ü.jpg": jpeg("green"), "notes.txt": b"x", ".t/h.jpg": b"x",
    }.items():
        system.pipe(f"/bucket/{name}", content)
    yield system
    system.rm("/bucket", recursive=True)


def refusal(uri):
    with pytest.raises(ImageError) as caught:
        read(uri)
    return str(caught.value)


class TestStorage:
    def test_all_images_below_a_folder(self, bucket, jpeg):
        result = scan("memory://bucket/")
        assert [(image.state.path, image.relative) for image in result.images] == [
            ("memory://bucket/x/a.PNG", "x/a.PNG"), ("memory://bucket/x/y/b c#ü.jpg", "x/y/b c#ü.jpg"),
            ("memory://bucket/z.jpg", "z.jpg"),
        ]
        assert [read(image.state.path) for image in result.images] == [jpeg("blue"), jpeg("green"), jpeg("red")]
        assert (result.unreadable, result.roots) == ([], ["memory://bucket"])

    def test_one_image(self, bucket, jpeg):
        [image] = scan("memory://bucket/x/a.PNG").images
        assert (image.relative, image.state.size) == ("a.PNG", len(jpeg("blue")))

    def test_what_is_written_anew_has_another_state(self, bucket, jpeg):
        before = scan("memory://bucket/z.jpg").images
        assert scan("memory://bucket/z.jpg").images == before
        time.sleep(0.001)
        bucket.pipe("/bucket/z.jpg", jpeg("red"))
        assert scan("memory://bucket/z.jpg").images[0].state.mtime_ns > before[0].state.mtime_ns

    def test_what_is_gone(self, bucket):
        assert refusal("memory://bucket/gone.jpg") == "not there"
        with pytest.raises(CorpusError, match="^memory://gone does not exist"):
            scan("memory://gone")

    def test_storage_that_fails(self, bucket, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no credentials\nfound")

        monkeypatch.setattr(type(bucket), "find", fail)
        monkeypatch.setattr(type(bucket), "cat_file", fail)
        with pytest.raises(CorpusError, match="^memory://bucket cannot be listed: no credentials found. Check"):
            scan("memory://bucket")
        assert refusal("memory://bucket/z.jpg") == "cannot be read: no credentials found"

    @pytest.mark.parametrize(("protocol", "extra"), [("s3", "s3"), ("gs", "gcs")])
    def test_a_package_that_is_not_installed(self, monkeypatch, protocol, extra):
        def absent(uri):
            raise ImportError("Install it to access that")

        monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
        expected = f"{protocol}:// needs a package that is not installed: pip install 'crossmodal-retrieval\\[{extra}\\]'"
        with pytest.raises(CorpusError, match=f"{protocol}://bucket/x cannot be read: {expected}"):
            scan(f"{protocol}://bucket/x")
        assert "needs more: Install it to access that" in refusal("abfs://x/a.jpg")

    def test_an_unknown_protocol(self):
        assert refusal("nope://x/a.jpg") == "Protocol not known: nope"


@pytest.mark.parametrize(("info", "number"), [
    ({}, 0), ({"mtime": 1.5}, 1_500_000_000), ({"created": None, "updated": "2024"}, None), ({"ETag": '"x"', "mtime": 1}, None),
])
def test_versions(info, number):
    first, again = remote._state("a", info), remote._state("a", dict(info))
    assert first == again and first.size == -1
    if number is not None:
        assert first.mtime_ns == number
    else:
        assert 0 < first.mtime_ns < 2**63


def test_ids_of_links():
    image = named("https://host/x?y/z")
    assert (image.relative, str(image.root)) == ("x?y/z", "https:/host")


@pytest.mark.parametrize(("name", "expected"), [
    ("s3://b/x", True), ("HTTPS://x", True), ("C:/x", False), ("/a://b", False), ("a.jpg", False), ("://", False),
])
def test_what_is_a_uri(name, expected):
    assert is_uri(name) is expected
