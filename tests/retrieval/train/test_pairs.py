"""Photos and captions from a folder and from a tar, and what may be wrong with them."""

import io
import tarfile

import pytest
from PIL import Image

from retrieval.errors import CaptionsError, CorpusError
from retrieval.train.pairs import photos_in, read_pairs

CAPTIONS = "image\tcaption\tsplit\nb.jpg\tsecond\ttrain\na.jpg\tfirst\ttrain\na.jpg\tfirst again\ttrain\n" \
           "gone.jpg\tnot here\ttrain\na.jpg\tfor testing\ttest\n"


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text(CAPTIONS)
    return path


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(params=["folder", "tar"])
def images(request, tmp_path):
    contents = {"a.jpg": jpeg("red"), "b.jpg": jpeg("blue"), "c.jpg": jpeg("green")}
    if request.param == "folder":
        folder = tmp_path / "images"
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return folder
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {"notes.txt": b"no image", **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_pairs_by_photo_name(images, captions):
    pairs = read_pairs(images, captions, split="train")
    assert [photo.name for photo in pairs.photos] == ["a.jpg", "b.jpg"]
    assert pairs.captions == [["first", "first again"], ["second"]]
    assert pairs.missing == 1
    assert [photo.read() for photo in pairs.photos] == [jpeg("red"), jpeg("blue")]


def test_all_splits_without_a_choice(images, captions):
    assert read_pairs(images, captions).captions[0] == ["first", "first again", "for testing"]


def test_nothing_matches(images, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("image,caption\nz.jpg,unknown\n")
    with pytest.raises(CaptionsError, match="z.jpg"):
        read_pairs(images, path)


def test_missing_images(tmp_path, captions):
    with pytest.raises(CorpusError, match="does not exist"):
        read_pairs(tmp_path / "nowhere", captions)


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8b compressed"])
def test_neither_folder_nor_tar(tmp_path, content):
    path = tmp_path / "images.tar"
    path.write_bytes(content)
    with pytest.raises(CorpusError):
        photos_in(path)


def test_folder_without_images(tmp_path):
    with pytest.raises(CorpusError, match="holds no images"):
        photos_in(tmp_path)
