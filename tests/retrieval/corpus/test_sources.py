import re
import tarfile

import pytest

from retrieval.corpus.sources import ImageSource, images_in
from retrieval.errors import CorpusError


def test_a_folder(lay_out, jpeg):
    root = lay_out({"b/2.jpg": None, "a.PNG": b"as it is", "notes.txt": "no image", ".hidden.jpg": None})
    first, second = images_in(root)
    assert (first, second) == (ImageSource("a.PNG", root / "a.PNG"), ImageSource("b/2.jpg", root / "b" / "2.jpg"))
    assert (first.read(), second.read()) == (b"as it is", jpeg())


def test_a_tar(tmp_path, tar, jpeg):
    contents = {"./x/2.jpg": jpeg("red"), "1.JPEG": jpeg("blue"), "notes.txt": b"no", "x/._2.jpg": b"not a picture"}
    path = tar(tmp_path / "photos.tar", contents)
    first, second = images_in(path)
    assert (first.name, second.name) == ("1.JPEG", "x/2.jpg")
    assert (first.path, first.size) == (path, len(jpeg("blue")))
    assert (first.read(), second.read()) == (jpeg("blue"), jpeg("red"))
    assert path.read_bytes()[first.offset : first.offset + first.size] == jpeg("blue")


def test_of_two_members_of_one_name_the_later(tmp_path, tar, jpeg):
    path = tmp_path / "photos.tar"
    tar(path, {"a.jpg": jpeg("red")})
    tar(path, {"a.jpg": jpeg("blue")}, mode="a")
    assert [source.read() for source in images_in(path)] == [jpeg("blue")]


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_tars_are_refused(tmp_path, tar, jpeg, mode, name):
    path = tar(tmp_path / "photos.tar.x", {"a.jpg": jpeg()}, mode=mode)
    with pytest.raises(CorpusError, match=f"is compressed \\({name}\\), and images are read where they lie. Unpack it"):
        images_in(path)


def test_what_is_no_tar(lay_out):
    path = lay_out({"captions.csv": "image,caption\n" * 100}) / "captions.csv"
    with pytest.raises(CorpusError, match="captions.csv is not an uncompressed tar file"):
        images_in(path)


def test_a_tar_cut_short(tmp_path, tar, jpeg):
    path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg(), "b.jpg": jpeg()})
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset_data
    path.write_bytes(path.read_bytes()[: second + 9])
    with pytest.raises(CorpusError, match="photos.tar is cut short within b.jpg"):
        images_in(path)


def test_no_images(lay_out, tmp_path, tar):
    root = lay_out({"notes.txt": "x"})
    with pytest.raises(CorpusError, match=f"^{re.escape(str(root))} holds no images.$"):
        images_in(root)
    with pytest.raises(CorpusError, match="empty.tar holds no images.$"):
        images_in(tar(tmp_path / "empty.tar", {"notes.txt": b"x"}))
    with pytest.raises(CorpusError, match="gone does not exist. Give a folder of images, or a .tar"):
        images_in(tmp_path / "gone")
