import os
import sys
from pathlib import Path

import pytest

from retrieval.corpus.folder import scan
from retrieval.documents import FileState
from retrieval.errors import CorpusError


@pytest.fixture
def tree(tmp_path):
    """tree("a.jpg", "b/c.png") makes these files below the folder `photos`."""
    root = tmp_path / "photos"
    root.mkdir()

    def make(*names):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"content of " + path.name.encode())
        return root

    return make


def found(*paths):
    return [file.relative for file in scan(paths).images]


class TestWalking:
    def test_images_of_all_subfolders_in_path_order(self, tree):
        root = tree("z.jpg", "b/2.png", "b/10.webp", "a/deep/er/x.TIFF", "B.JPEG", "b.gif")
        assert found(root) == ["B.JPEG", "a/deep/er/x.TIFF", "b.gif", "b/10.webp", "b/2.png", "z.jpg"]

    def test_other_files_are_passed_over(self, tree):
        root = tree("a.jpg", "notes.txt", "clip.mp4", "jpg", "a.jpg.xmp", "raw.iiq")
        assert found(root) == ["a.jpg"]

    def test_folders_named_like_images_are_walked(self, tree):
        assert found(tree("album.jpg/a.png")) == ["album.jpg/a.png"]

    def test_hidden_files_and_folders_are_passed_over(self, tree):
        root = tree("a.jpg", "._a.jpg", ".hidden.png", ".cache/b.jpg", "c/.thumbs/d.jpg")
        assert found(root) == ["a.jpg"]

    def test_a_hidden_folder_can_be_asked_for(self, tree):
        assert found(tree(".private/b.jpg") / ".private") == ["b.jpg"]

    def test_collections_are_passed_over(self, tree):
        root = tree("a.jpg", "x.collection/manifest.json", "x.collection/a.jpg", "x.collection/sub/b.jpg")
        assert found(root) == ["a.jpg"]

    def test_what_only_looks_like_a_collection_is_walked(self, tree):
        root = tree("stamps.collection/a.jpg", "app/manifest.json", "app/icon.png")
        assert found(root) == ["app/icon.png", "stamps.collection/a.jpg"]

    def test_what_is_known_of_a_file(self, tree):
        root = tree("b/a.jpg")
        os.utime(root / "b" / "a.jpg", ns=(5, 1_234_567_890_123_456_789))
        [file] = scan([root]).images
        mtime_ns = (root / "b" / "a.jpg").stat().st_mtime_ns
        assert file.state == FileState(str(root / "b" / "a.jpg"), 16, mtime_ns)
        assert abs(mtime_ns - 1_234_567_890_123_456_789) < 100  # some systems keep hundreds of ns
        assert (file.root, file.relative) == (root, "b/a.jpg")

    def test_an_empty_folder(self, tree):
        result = scan([tree()])
        assert (result.images, result.unreadable) == ([], [])


class TestRoots:
    def test_a_single_file(self, tree):
        root = tree("b/a.jpg", "b/other.jpg")
        result = scan([root / "b" / "a.jpg"])
        assert [(file.root, file.relative) for file in result.images] == [(root / "b", "a.jpg")]
        assert result.roots == [str(root / "b" / "a.jpg")]

    def test_relative_paths_become_absolute(self, tree, monkeypatch):
        root = tree("a.jpg")
        monkeypatch.chdir(root.parent)
        result = scan([Path("photos"), Path("./photos/../photos/a.jpg")])
        assert result.roots == [str(root), str(root / "a.jpg")]
        assert [file.state.path for file in result.images] == [str(root / "a.jpg")]

    def test_roots_that_overlap_give_each_file_once_below_the_first(self, tree):
        root = tree("a/1.jpg", "a/2.jpg", "3.jpg")
        assert found(root / "a", root) == ["3.jpg", "1.jpg", "2.jpg"]
        assert found(root, root / "a") == ["3.jpg", "a/1.jpg", "a/2.jpg"]

    def test_a_missing_path(self, tree):
        gone = tree("a.jpg") / "gone"
        with pytest.raises(CorpusError, match=f"^{gone} does not exist. Give a folder of images"):
            scan([gone.parent, gone])

    @pytest.mark.parametrize("name", ["notes.txt", "photo", "photo.jpg.zip"])
    def test_a_file_that_is_no_image_by_its_name(self, tree, name):
        path = tree(name) / name
        with pytest.raises(CorpusError, match=f"^{path} is neither an image nor a video by its name .*jpeg, jpg"):
            scan([path])


@pytest.mark.skipif(sys.platform == "win32", reason="links and odd names need POSIX")
class TestOddFolders:
    def test_a_loop_of_links_ends(self, tree):
        root = tree("a/1.jpg")
        (root / "a" / "again").symlink_to(root)
        (root / "self").symlink_to(root / "self")
        assert found(root) == ["a/1.jpg"]

    def test_linked_folders_are_not_followed_but_linked_files_are(self, tree, tmp_path):
        root = tree("a.jpg")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "b.jpg").write_bytes(b"longer than a link")
        (root / "folder").symlink_to(tmp_path / "elsewhere")
        (root / "c.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
        (root / "dangling.jpg").symlink_to(root / "gone.jpg")
        result = scan([root])
        assert [(file.relative, file.state.size) for file in result.images] == [("a.jpg", 16), ("c.jpg", 18)]

    def test_a_link_as_root(self, tree, tmp_path):
        (tmp_path / "link").symlink_to(tree("a.jpg"))
        [file] = scan([tmp_path / "link"]).images
        assert file.state.path == str(tmp_path / "link" / "a.jpg")

    def test_pipes_are_passed_over(self, tree):
        root = tree("a.jpg")
        os.mkfifo(root / "pipe.jpg")
        assert found(root) == ["a.jpg"]

    @pytest.mark.skipif(sys.platform == "darwin", reason="file names are always UTF-8 there")
    def test_a_name_that_is_not_utf8_is_reported(self, tree):
        root = tree("a.jpg", "ünïcode 日本.jpg")
        Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"x")
        result = scan([root])
        assert [file.relative for file in result.images] == ["a.jpg", "ünïcode 日本.jpg"]
        assert result.unreadable == [(f"{root}/caf\\xe9.jpg", "the file name is not valid UTF-8; rename it")]
        "".join(result.unreadable[0]).encode()

    def test_a_folder_that_cannot_be_listed_is_reported(self, tree, monkeypatch):
        root = tree("a.jpg", "locked/b.jpg")
        list_folder = os.scandir

        def refuse(path):  # root may list everything, so the refusal is made here
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", str(path))
            return list_folder(path)

        monkeypatch.setattr(os, "scandir", refuse)
        result = scan([root])
        assert [file.relative for file in result.images] == ["a.jpg"]
        assert result.unreadable == [(str(root / "locked"), "cannot be read: Permission denied")]

    def test_a_file_that_cannot_be_looked_at_is_reported(self, tree, monkeypatch):
        root = tree("a.jpg", "locked/b.jpg")
        status = Path.stat

        def refuse(path, **options):
            if path.name == "b.jpg":
                raise PermissionError(13, "Permission denied", str(path))
            return status(path, **options)

        monkeypatch.setattr(Path, "stat", refuse)
        result = scan([root])
        assert [file.relative for file in result.images] == ["a.jpg"]
        assert result.unreadable == [(str(root / "locked" / "b.jpg"), "cannot be read: Permission denied")]
