"""A folder as bad as folders get: the run ends well, names every bad file, and indexes every good one."""

import io
import os
import random
import struct
import sys
import zlib

import pytest
from PIL import Image

from retrieval.collection import Collection
from retrieval.maintain import Options, index_sources

GOOD, OF_EACH_KIND = 1400, 120


def picture(seed, format="JPEG"):
    buffer = io.BytesIO()
    noise = random.Random(seed).randbytes(24 * 24 * 3)
    Image.frombytes("RGB", (24, 24), noise).save(buffer, format)
    return buffer.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge(seed):
    header = struct.pack(">IIBBBBB", 40_000 + seed, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def flipped(seed):
    content = bytearray(picture(seed))
    for at in random.Random(seed).sample(range(len(content)), 20):
        content[at] ^= 1 << seed % 8
    return bytes(content)


BAD = {
    "empty": (lambda seed: b"", "the file is empty"),
    "words": (lambda seed: b"no picture at all %d" % seed, "not an image in a format that can be read"),
    "huge": (huge, "larger than 500 megapixels"),
    "truncated": (lambda seed: picture(seed)[: 700 + seed], "damaged or truncated"),
}


@pytest.fixture
def hostile(tmp_path):
    """The folder, and its files by kind."""
    folder, files = tmp_path / "photos", {}

    def write(kind, name, content):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files.setdefault(kind, set()).add(str(path))

    for seed in range(GOOD):
        write("good", f"{seed % 40}/{seed}.jpg", picture(seed))
    for seed in range(60):
        write("good", f"png/{seed}.jpg", picture(seed, "PNG"))  # by its content, whatever its name
        write("good", "/".join(["deep"] * (1 + seed)) + "/a.webp", picture(GOOD + seed, "WEBP"))
    for seed, name in enumerate(("日本 #1.jpg", "a\nb.jpg", "%00.jpg", "e\u0301.jpg", "'; DROP TABLE.jpg", "🐈.jpg", " .jpg")):
        write("good", f"names/{name}", picture(2 * GOOD + seed))
    for kind, (make, _) in BAD.items():
        for seed in range(OF_EACH_KIND):
            write(kind, f"{kind}/{seed}.jpg", make(seed))
    for seed in range(OF_EACH_KIND):
        write("flipped", f"flipped/{seed}.jpg", flipped(3 * GOOD + seed))
    os.symlink(folder, folder / "loop")
    os.symlink("round.jpg", folder / "round.jpg")
    os.symlink("nowhere.jpg", folder / "dangling.jpg")
    os.symlink("/proc/self/mem", folder / "unreadable.jpg")  # is there, and cannot be read, by root either
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb") as file:
        file.write(picture(5 * GOOD))
    return folder, files


@pytest.mark.skipif(sys.platform != "linux", reason="the unreadable file is one of Linux")
def test_every_good_file_is_indexed_and_every_bad_one_named(hostile, tmp_path, tiny_model):
    folder, files = hostile
    assert sum(map(len, files.values())) > 2000
    report = index_sources([folder], tmp_path / "c.collection", Options(str(tiny_model), "cpu"))
    named = dict(report.skipped)
    with Collection.open(tmp_path / "c.collection") as collection:
        indexed = {document.file.path for _, document in collection.catalog.described(0, collection.vectors.n)}
    assert files["good"] <= indexed and not files["good"] & named.keys()
    for kind, (_, reason) in BAD.items():
        assert {path for path in files[kind] if reason in named.get(path, "")} == files[kind], kind
        assert not files[kind] & indexed
    # Some of these can still be decoded: either, but not neither.
    assert {path in indexed for path in files["flipped"]} == {True, False}
    assert files["flipped"] == (files["flipped"] & indexed) ^ (files["flipped"] & named.keys())
    others = named.keys() - set().union(*files.values())
    assert sorted(named[path] for path in others) == [
        "cannot be read: Input/output error", "cannot be read: Too many levels of symbolic links",
        "the file name is not valid UTF-8; rename it",
    ]
    assert report.images == len(indexed) == len(files["good"]) + len(files["flipped"] & indexed)
