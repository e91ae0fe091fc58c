import pytest

from retrieval.corpus.captions import Caption, match_captions
from retrieval.corpus.datasets import load_dataset
from retrieval.errors import DatasetError


@pytest.fixture
def root(lay_out, tar, jpeg):
    """Two tars; the same key is in both, and one image has no captions."""
    root = lay_out({"dataset_type.txt": "retrieval\n", "test/nshards.txt": "2\n"})
    tar(root / "test" / "0.tar", {
        "s1.jpg": jpeg("red"), "s1.txt": "a hen\n a bird \n\n", "s1.json": b"{}",
        "s2.v1.png": b"not this", "s2.txt": "an owl", "s2.webp": jpeg("blue"),
    })
    tar(root / "test" / "1.tar", {
        "s1.txt": "eine Katze\n\neine K\u00e4tzin", "s1.JPEG": jpeg("lime"), "s9.jpg": jpeg(),
    })
    return root


@pytest.fixture
def tar(tar):
    """As text or bytes."""
    def write(path, contents):
        return tar(path, {name: one if isinstance(one, bytes) else one.encode() for name, one in contents.items()})
    return write


def test_images_and_captions_of_all_tars(root, jpeg):
    dataset = load_dataset("webdataset", root)
    assert [(source.name, source.path.name) for source in dataset.images] == [
        ("test/0/s1.jpg", "0.tar"), ("test/0/s2.webp", "0.tar"),
        ("test/1/s1.JPEG", "1.tar"), ("test/1/s9.jpg", "1.tar"),
    ]
    assert [source.read() for source in dataset.images] == [jpeg("red"), jpeg("blue"), jpeg("lime"), jpeg()]
    assert dataset.captions.captions == [
        Caption("test/0/s1.jpg", "a hen"), Caption("test/0/s1.jpg", "a bird"), Caption("test/0/s2.webp", "an owl"),
        Caption("test/1/s1.JPEG", "eine Katze"), Caption("test/1/s1.JPEG", "eine K\u00e4tzin"),
    ]
    assert dataset.rules == [
        "The test split (2 tars): 4 images.",
        "All captions of an image: 5.",
    ]
    assert dataset.captions.empty == 1


def test_an_image_without_captions_competes(root):
    dataset = load_dataset("webdataset", root)
    matched = match_captions(dataset.captions.captions, [source.name for source in dataset.images])
    assert (matched.documents.tolist(), matched.uncaptioned) == ([0, 0, 1, 2, 2], ["test/1/s9.jpg"])


def test_another_kind_of_data_set(root, lay_out):
    lay_out({"dataset_type.txt": "zeroshot_classification"})
    with pytest.raises(DatasetError, match="dataset_type.txt does not say 'retrieval'"):
        load_dataset("webdataset", root)


def test_an_unknown_split(root):
    with pytest.raises(DatasetError, match="has no split 'train': choose from 'test'."):
        load_dataset("webdataset", root, split="train")


@pytest.mark.parametrize("count", ["", "two", "0", "-1"])
def test_a_count_that_is_none(root, lay_out, count):
    lay_out({"test/nshards.txt": count})
    with pytest.raises(DatasetError, match="nshards.txt does not hold a number of tars"):
        load_dataset("webdataset", root)


def test_a_missing_tar(root, lay_out):
    lay_out({"test/nshards.txt": "3"})
    with pytest.raises(DatasetError, match="2.tar is missing: nshards.txt counts 3 tars"):
        load_dataset("webdataset", root)


def test_tars_without_captions(root, lay_out, tar, jpeg):
    lay_out({"test/nshards.txt": "1"})
    tar(root / "test" / "0.tar", {"s1.jpg": jpeg(), "s1.cls": "3"})
    with pytest.raises(DatasetError, match="hold no image with captions"):
        load_dataset("webdataset", root)


def test_captions_that_are_not_utf8(root, lay_out, tar, jpeg):
    lay_out({"test/nshards.txt": "1"})
    tar(root / "test" / "0.tar", {"s1.jpg": jpeg(), "s1.txt": "K\u00e4tzin".encode("latin-1")})
    with pytest.raises(DatasetError, match="0.tar, s1.txt is not UTF-8 text"):
        load_dataset("webdataset", root)
