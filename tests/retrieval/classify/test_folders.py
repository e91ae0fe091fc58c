import re

import pytest

from retrieval.classify.folders import find_class_folders
from retrieval.errors import ClassesError, CorpusError


def make(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")  # found by name; nothing is opened


def test_a_folder_per_class(tmp_path):
    make(tmp_path, "cat/1.jpg", "cat/deep/er/2.png", "dog/3.jpg", "loose.jpg", "cat/notes.txt", ".hidden/4.jpg")
    (tmp_path / "empty").mkdir()
    found = find_class_folders(tmp_path)
    assert (found.test, found.train) == (tmp_path, None)
    assert found.classes == ["cat", "dog", "empty"]
    assert found.unlabelled == ["loose.jpg"]


@pytest.mark.parametrize("judged", ["test", "val"])
def test_train_and_test(judged, tmp_path):
    make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "train/3.jpg", f"{judged}/cat/4.jpg",
         f"{judged}/dog/5.jpg", f"{judged}/6.jpg", "7.jpg", "extra/cat/8.jpg")
    found = find_class_folders(tmp_path)
    assert (found.test, found.train) == (tmp_path / judged, tmp_path / "train")
    assert found.classes == ["cat", "dog"]
    assert found.unlabelled == sorted(["7.jpg", "extra/cat/8.jpg", f"{judged}/6.jpg", "train/3.jpg"])


def test_test_goes_before_val(tmp_path):
    make(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "val/b/2.jpg", "test/a/3.jpg", "test/b/4.jpg")
    found = find_class_folders(tmp_path)
    assert found.test == tmp_path / "test" and found.unlabelled == ["val/a/2.jpg", "val/b/2.jpg"]


def test_train_alone_is_a_class(tmp_path):
    make(tmp_path, "train/1.jpg", "plane/2.jpg")
    assert find_class_folders(tmp_path).classes == ["plane", "train"]


def test_parts_may_be_links(tmp_path):
    make(tmp_path / "elsewhere", "test/a/1.jpg", "test/b/2.jpg")
    make(tmp_path / "set", "train/a/3.jpg")
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere" / "test")
    found = find_class_folders(tmp_path / "set")
    assert (found.test, found.classes, found.unlabelled) == (tmp_path / "set" / "test", ["a", "b"], [])


@pytest.mark.parametrize(("files", "message"), [
    (["1.jpg", "2.jpg"], "holds no class folder with images, and 2 images outside class folders."),
    (["cat/1.jpg", "dog/"], "holds the images of one class only (cat). Two classes or more are needed"),
    (["train/a/1.jpg", "train/b/2.jpg", "test/a/1.jpg"], "test holds the images of one class only (a)."),
    ([], "holds no class folder with images. Two"),
])
def test_too_few_classes(files, message, tmp_path):
    make(tmp_path, *files)
    with pytest.raises(ClassesError, match=re.escape(message)):
        find_class_folders(tmp_path)


def test_no_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ClassesError, match="a.jpg is a file. Give a folder"):
        find_class_folders(tmp_path / "a.jpg")
    with pytest.raises(CorpusError, match="nowhere does not exist"):
        find_class_folders(tmp_path / "nowhere")
