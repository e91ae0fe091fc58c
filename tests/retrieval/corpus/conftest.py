"""Captions files written for one test, and small real images, in folders and in tars."""

import io
import json
import tarfile
import zipfile

import pytest
from PIL import Image

from retrieval.corpus.captions import read_captions
from retrieval.errors import CaptionsError


@pytest.fixture
def write(tmp_path):
    def write(content, name="captions.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


@pytest.fixture
def write_json(write):
    return lambda content: write(json.dumps(content), "captions.json")


@pytest.fixture
def refusal(write):
    """The message with which a file of this content is refused."""

    def refusal(content, **options):
        with pytest.raises(CaptionsError) as caught:
            read_captions(write(content), **options)
        return str(caught.value)

    return refusal


@pytest.fixture(scope="session")
def jpeg():
    """jpeg("red") is a JPEG of that colour."""

    def jpeg(colour="grey"):
        content = io.BytesIO()
        Image.new("RGB", (16, 12), colour).save(content, "JPEG")
        return content.getvalue()

    return jpeg


@pytest.fixture
def lay_out(tmp_path, jpeg):
    """lay_out({"val/a.jpg": None, "captions.csv": "..."}) makes these files below a folder; None is a JPEG."""

    def lay_out(contents):
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, (bytes, str, type(None))):
                content = json.dumps(content)
            content = jpeg() if content is None else content
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return lay_out


@pytest.fixture(scope="session")
def tar():
    """tar(a_path, {"a.jpg": b"..."}) writes an uncompressed tar."""

    def tar(path, contents, mode="w"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return tar


@pytest.fixture(scope="session")
def zipped():
    """zipped(a_path, {"a.jpg": b"..."}) writes a zip."""

    def zipped(path, contents, method=zipfile.ZIP_STORED):
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path

    return zipped
