import os
import tarfile
import zipfile

import pytest

from retrieval.corpus.addresses import read
from retrieval.corpus.archives import is_archive, open_archive, scan
from retrieval.errors import ImageError


@pytest.fixture(params=["tar", "zip", "packed"])
def archive(request, tmp_path, tar, zipped):
    """archive({"a.jpg": b"..."}) writes an archive of each kind."""
    def archive(contents, name="photos"):
        if request.param == "tar":
            return tar(tmp_path / f"{name}.tar", contents)
        method = zipfile.ZIP_DEFLATED if request.param == "packed" else zipfile.ZIP_STORED
        return zipped(tmp_path / f"{name}.zip", contents, method)

    return archive


def found(path):
    """name -> content, in the archive's order"""
    return {image.relative: read(image.state.path) for image in scan(str(path)).images}


def test_images_in_the_archives_order(archive, jpeg):
    contents = {"z/2.jpg": jpeg("red"), "1.PNG": jpeg("blue"), "notes.txt": b"no", "inner.tar": b"x", "inner.zip": b"x"}
    path = archive(contents)
    result = scan(str(path))
    assert list(found(path).items()) == [("z/2.jpg", jpeg("red")), ("1.PNG", jpeg("blue"))]
    assert (result.unreadable, result.roots) == ([], [str(path)])
    assert result.images[0].state.path == f"{path}#z/2.jpg"
    assert {(image.state.size, image.state.mtime_ns) for image in result.images} == {
        (len(jpeg("red")), path.stat().st_mtime_ns)
    }


def test_odd_names(archive, jpeg):
    names = ["ünï 日本.jpg", "a#b.jpg", "white space\n.jpg", "../up.jpg", "dots.are.many.jpg"]
    assert list(found(archive({name: jpeg() for name in names}, "pho#tos.v2"))) == names


def test_hidden_images_are_passed_over(archive, jpeg):
    contents = {"./a.jpg": jpeg(), "._a.jpg": jpeg(), "__MACOSX/._a.jpg": jpeg(), ".thumbs/a.jpg": jpeg()}
    assert list(found(archive(contents))) == ["a.jpg"]


def test_captions_beside_images(archive, jpeg):
    path = archive({
        "0.jpg": jpeg(), "0.txt": b"a dog\ntwo dogs", "0.json": b'{"caption": "a dog", "key": "0"}', "1.jpg": jpeg(),
        "x/0.jpg": jpeg(), "x/0.json": b'{"text": "a cat"}',
    })
    assert [image.captions for image in scan(str(path)).images] == [("a dog", "two dogs"), None, ("a cat",)]


def test_an_empty_archive(archive):
    result = scan(str(archive({})))
    assert (result.images, result.unreadable) == ([], [])


def test_an_archive_written_anew_is_listed_anew(archive, jpeg):
    path = archive({"a.jpg": jpeg("red"), "b.jpg": jpeg("red")})
    before = scan(str(path)).images
    path.unlink()
    archive({"b.jpg": jpeg("blue")})
    os.utime(path, ns=(5, 5))
    assert found(path) == {"b.jpg": jpeg("blue")}
    assert scan(str(path)).images[0].state != before[1].state


def test_of_two_members_of_one_name_the_later(tmp_path, tar, zipped, jpeg):
    path = tar(tmp_path / "a.tar", {"a.jpg": jpeg("red"), "b.jpg": jpeg()})
    tar(path, {"./a.jpg": jpeg("blue")}, mode="a")
    assert found(path) == {"b.jpg": jpeg(), "a.jpg": jpeg("blue")}
    path = zipped(tmp_path / "a.zip", {"a.jpg": jpeg("red"), "./a.jpg": jpeg("blue")})
    assert found(path) == {"a.jpg": jpeg("blue")}


class TestTarsWithFaults:
    @pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
    def test_compressed(self, tmp_path, tar, jpeg, mode, name):
        path = tar(tmp_path / "photos.tar.gz", {"a.jpg": jpeg()}, mode=mode)
        assert scan(str(path)).unreadable == [(str(path), (
            f"compressed ({name}), and images are read where they lie. Unpack it, and give the folder or the plain .tar"
        ))]

    @pytest.mark.parametrize("left", [9, -9, 0, -600])
    def test_cut_short(self, tmp_path, tar, jpeg, left):
        """Within the second image, its header, or just behind that."""
        path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg(), "b.jpg": jpeg()})
        with tarfile.open(path) as archive:
            second = archive.getmembers()[1].offset_data
        path.write_bytes(path.read_bytes()[: second + left])
        result = scan(str(path))
        assert [image.relative for image in result.images] == ["a.jpg"]
        if left != -600:  # there the first image ends, padded or not
            [(place, reason)] = result.unreadable
            assert place == str(path) and ("cut short" in reason or "damaged" in reason)

    def test_damaged_in_the_middle(self, tmp_path, tar, jpeg):
        path = tar(tmp_path / "photos.tar", {name: jpeg() for name in ("a.jpg", "b.jpg", "c.jpg")})
        with tarfile.open(path) as archive:
            header = archive.getmembers()[1].offset
        content = bytearray(path.read_bytes())
        content[header : header + 512] = b"\xff" * 512
        path.write_bytes(content)
        result = scan(str(path))
        assert [image.relative for image in result.images] == ["a.jpg"]
        assert result.unreadable == [(str(path), "damaged: what follows its last readable member is no member")]

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.REGTYPE])
    @pytest.mark.parametrize("size", [2**70, -600])
    def test_a_size_that_no_file_has(self, tmp_path, tar, jpeg, kind, size):
        path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg()})
        second = tarfile.TarInfo("b.jpg")
        second.type, second.size = kind, size
        with tarfile.open(path) as archive:
            end = archive.getmembers()[0].offset_data + 512 * -(-len(jpeg()) // 512)
        path.write_bytes(path.read_bytes()[:end] + second.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)
        result = scan(str(path))
        assert [image.relative for image in result.images] == ["a.jpg"]
        [(place, reason)] = result.unreadable
        assert place == str(path) and ("damaged" in reason or "cut short" in reason)

    def test_a_name_with_a_nul(self, tmp_path):
        path = tmp_path / "photos.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            member = tarfile.TarInfo("a.jpg")
            member.pax_headers = {"path": "a\0b.jpg"}
            archive.addfile(member)
        with pytest.raises(ImageError, match="cannot be read: embedded null byte"):
            read(scan(str(path)).images[0].state.path)

    @pytest.mark.parametrize("content", [b"", b"image,caption\n" * 100])
    def test_no_tar_at_all(self, tmp_path, content):
        path = tmp_path / "photos.tar"
        path.write_bytes(content)
        [(place, reason)] = scan(str(path)).unreadable
        assert reason.startswith("not an uncompressed tar file (")

    def test_a_name_that_is_not_utf8(self, tmp_path, tar, jpeg):
        path = tar(tmp_path / "photos.tar", {os.fsdecode(b"caf\xe9.jpg"): jpeg(), "a.jpg": jpeg()})
        result = scan(str(path))
        assert [image.relative for image in result.images] == ["a.jpg"]
        assert result.unreadable == [(f"{path}#caf\\xe9.jpg", "the file name is not valid UTF-8; rename it")]

    def test_links_and_folders_are_passed_over(self, tmp_path, jpeg, tar):
        path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg()})
        with tarfile.open(path, "a") as archive:
            link, folder = tarfile.TarInfo("link.jpg"), tarfile.TarInfo("folder.jpg")
            link.type, link.linkname, folder.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.DIRTYPE
            archive.addfile(link)
            archive.addfile(folder)
        assert list(found(path)) == ["a.jpg"]


class TestZipsWithFaults:
    def test_cut_short(self, tmp_path, zipped, jpeg):
        path = zipped(tmp_path / "photos.zip", {"a.jpg": jpeg()})
        path.write_bytes(path.read_bytes()[:-9])
        result = scan(str(path))
        assert result.images == []
        [(place, reason)] = result.unreadable
        assert place == str(path) and reason.startswith("damaged, cut short, or no zip file (")

    def refusal(self, path, damage):
        """Of the first member, with `damage` done to the archive's bytes."""
        content = bytearray(path.read_bytes())
        damage(content)
        path.write_bytes(content)
        [image] = scan(str(path)).images
        with pytest.raises(ImageError) as caught:
            read(image.state.path)
        return str(caught.value)

    def test_encrypted_members(self, tmp_path, zipped, jpeg):
        def mark(content):
            content[content.index(b"PK\1\2") + 8] |= 1

        path = zipped(tmp_path / "photos.zip", {"a.jpg": jpeg()})
        assert self.refusal(path, mark).startswith("encrypted; unpack the archive with its password")

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_damaged_members(self, tmp_path, zipped, jpeg, method):
        def damage(content):
            content[60] ^= 0xFF

        path = zipped(tmp_path / "photos.zip", {"a.jpg": jpeg()}, method)
        assert "the archive is damaged here" in self.refusal(path, damage)

    def test_rare_methods(self, tmp_path, zipped, jpeg):
        path = zipped(tmp_path / "photos.zip", {"a.jpg": jpeg()}, zipfile.ZIP_LZMA)
        assert "packed by a rare method" in self.refusal(path, lambda content: None)

    @pytest.mark.parametrize("field", [20, 24])
    def test_a_member_that_claims_to_be_huge(self, tmp_path, zipped, jpeg, field):
        """Packed, or unpacked."""
        def claim(content):
            at = content.index(b"PK\1\2") + field
            content[at : at + 4] = (2 << 30).to_bytes(4, "little")

        path = zipped(tmp_path / "photos.zip", {"a.jpg": jpeg()}, zipfile.ZIP_DEFLATED)
        assert self.refusal(path, claim) == "larger than 1024 MiB"


def test_a_tar_cut_after_it_was_listed(tmp_path, tar, jpeg):
    path = tar(tmp_path / "photos.tar", {"a.jpg": jpeg()})
    archive = open_archive(str(path))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match="the archive ends within it"):
        archive.read("a.jpg")


@pytest.mark.parametrize(("name", "expected"), [
    ("a.tar", True), ("a.ZIP", True), ("a.tar.gz", True), ("a.tgz", True), ("tar", False), ("a.jpg", False),
])
def test_archives_by_their_names(name, expected):
    assert is_archive(name) is expected
