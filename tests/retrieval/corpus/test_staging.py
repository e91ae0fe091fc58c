import os
import sys

import pytest

from retrieval.corpus.folder import scan
from retrieval.corpus.sources import ImageSource, images_in
from retrieval.corpus.staging import stage
from retrieval.errors import DatasetError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need POSIX")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "staged" / "images"


@pytest.fixture
def photos(lay_out):
    root = lay_out({"val/a.jpg": None, "b.jpg": None})
    return [ImageSource("val/a.jpg", root / "val" / "a.jpg"), ImageSource("b.jpg", root / "b.jpg")]


@pytest.fixture
def packed(tmp_path, tar, jpeg):
    return images_in(tar(tmp_path / "photos.tar", {"x/1.jpg": jpeg("red"), "2.jpg": jpeg("blue")}))


def held(folder):
    """Every file, by relative name, as indexing finds it."""
    return {file.relative: os.path.realpath(file.state.path) for file in scan([folder]).images}


def states(folder):
    return {file.relative: file.state for file in scan([folder]).images}


def test_files_are_linked_and_found_by_a_scan(photos, folder):
    stage(photos, folder)
    assert held(folder) == {"b.jpg": str(photos[1].path), "val/a.jpg": str(photos[0].path)}
    assert (folder / "b.jpg").is_symlink() and os.path.isabs(os.readlink(folder / "b.jpg"))


def test_relative_paths_are_linked_absolutely(photos, folder, monkeypatch):
    monkeypatch.chdir(photos[1].path.parent)
    stage([ImageSource("b.jpg", photos[1].path.relative_to(photos[1].path.parent))], folder)
    assert os.readlink(folder / "b.jpg") == str(photos[1].path)


def test_members_of_tars_are_extracted(packed, folder, jpeg):
    stage(packed, folder)
    assert {name: (folder / name).read_bytes() for name in held(folder)} == {
        "2.jpg": jpeg("blue"), "x/1.jpg": jpeg("red"),
    }
    assert not (folder / "2.jpg").is_symlink()


def test_again_leaves_files_as_they_are(packed, photos, folder):
    stage(packed + photos, folder)
    for name in ("2.jpg", "x/1.jpg"):
        os.utime(folder / name, (1, 1))
    before = states(folder)
    stage(packed + photos, folder)
    assert states(folder) == before
    assert before["2.jpg"].mtime_ns == 1_000_000_000


def test_what_is_no_longer_wanted_goes(packed, photos, folder):
    stage(packed + photos, folder)
    (folder / "x" / "stray.jpg").write_bytes(b"put there by hand")
    stage(packed[:1] + photos[1:], folder)
    assert sorted(held(folder)) == ["2.jpg", "b.jpg"]
    assert not (folder / "val").exists() and not (folder / "x").exists()
    assert photos[0].path.exists()


def test_what_was_lost_comes_back(packed, folder, jpeg):
    stage(packed, folder)
    (folder / "2.jpg").unlink()
    stage(packed, folder)
    assert (folder / "2.jpg").read_bytes() == jpeg("blue")


def test_a_tar_that_changed_is_extracted_anew(packed, folder, tar, jpeg, tmp_path):
    stage(packed, folder)
    tar(tmp_path / "photos.tar", {"x/1.jpg": jpeg("lime"), "2.jpg": jpeg("blue")})
    os.utime(tmp_path / "photos.tar", (5, 5))
    stage(images_in(tmp_path / "photos.tar"), folder)
    assert (folder / "x" / "1.jpg").read_bytes() == jpeg("lime")


def test_a_name_may_come_from_elsewhere_the_next_time(packed, photos, folder, jpeg):
    stage([ImageSource("2.jpg", photos[1].path)], folder)
    stage(packed, folder)
    assert (folder / "2.jpg").read_bytes() == jpeg("blue")
    assert photos[1].path.read_bytes() == jpeg()  # not written through the link


def test_linked_folders_inside_are_removed_not_followed(packed, photos, folder):
    stage([], folder)
    outside = photos[1].path.parent
    (folder / "x").symlink_to(outside)
    stage(packed, folder)
    assert not (folder / "x").is_symlink()
    assert sorted(os.listdir(outside)) == ["b.jpg", "val"]


def test_a_run_cut_off_is_finished(packed, folder, jpeg, monkeypatch):
    read = ImageSource.read

    def fail_on_the_second(source):
        if source.name == "x/1.jpg":
            raise OSError(5, "Input/output error", str(source.path))
        return read(source)

    with monkeypatch.context() as patch:
        patch.setattr(ImageSource, "read", fail_on_the_second)
        with pytest.raises(DatasetError, match="cannot be staged in .*photos.tar Input/output error"):
            stage(packed, folder)
    os.utime(folder / "2.jpg", (1, 1))
    stage(packed, folder)
    assert (folder / "x" / "1.jpg").read_bytes() == jpeg("red")
    assert (folder / "2.jpg").stat().st_mtime == 1


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/tmp/x.jpg", "./x.jpg", "a//x.jpg", "", "."])
def test_names_that_lead_elsewhere_are_refused(photos, folder, name):
    with pytest.raises(DatasetError, match="would not lie below the folder by its own name"):
        stage([ImageSource(name, photos[0].path)], folder)
    assert not folder.exists()


def test_two_images_of_one_name(photos, folder):
    with pytest.raises(DatasetError, match="Two images are named 'b.jpg': in .*b.jpg and .*a.jpg"):
        stage([photos[1], ImageSource("b.jpg", photos[0].path)], folder)


def test_a_folder_of_other_files_is_not_emptied(photos, folder):
    folder.mkdir(parents=True)
    (folder / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(DatasetError, match="holds files that were not staged, and staging would remove them"):
        stage(photos, folder)
    assert (folder / "mine.jpg").read_bytes() == b"precious"


def test_an_image_that_is_gone(photos, folder):
    photos[0].path.unlink()
    with pytest.raises(DatasetError, match="a.jpg, which holds the image 'val/a.jpg', is no longer there"):
        stage(photos, folder)


def test_a_tar_cut_short_since(packed, folder):
    path = packed[0].path
    path.write_bytes(path.read_bytes()[: packed[0].offset + 5])
    with pytest.raises(DatasetError, match="photos.tar ends within the image '2.jpg'"):
        stage(packed[:1], folder)
    assert not (folder / "2.jpg").exists()


def test_a_file_where_the_folder_should_be(photos, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DatasetError, match="cannot be staged in .*file"):
        stage(photos, tmp_path / "file")
