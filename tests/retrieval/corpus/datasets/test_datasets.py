"""What all data sets have in common; their layouts have tests of their own."""

import re

import pytest

from retrieval.corpus.captions import match_captions
from retrieval.corpus.datasets import DATASETS, ImageSource, load_dataset
from retrieval.errors import CaptionsError, DatasetError

CSV = """\
image,caption,language,split
hen.jpg,a hen,en,test
hen.jpg,a bird,en,test
hen.jpg,eine Henne,de,test
owl.jpg,an owl,en,test
owl.jpg,eine Eule,de,test
cat.jpg,un chat,fr,train
"""


@pytest.fixture
def root(lay_out):
    return lay_out({"captions.csv": CSV, "x/hen.jpg": None, "x/owl.jpg": None, "cat.jpg": None})


def names(dataset):
    return [source.name for source in dataset.images]


def texts(dataset):
    return [caption.text for caption in dataset.captions.captions]


def test_a_split_of_ones_own(root):
    dataset = load_dataset("csv", str(root), split="test")
    assert (dataset.name, dataset.root, dataset.split) == ("csv", root, "test")
    assert dataset.images == [ImageSource(name, root / name) for name in ("x/hen.jpg", "x/owl.jpg")]
    assert texts(dataset) == ["a hen", "a bird", "eine Henne", "an owl", "eine Eule"]
    assert dataset.rules == [
        "The test split of captions.csv: 2 images.",
        "Captions in 2 languages: de, en.",
        "All captions of an image in each language: 5 (the first 1 each would be 4: --captions-per-image 1).",
    ]


def test_all_splits_unless_asked_otherwise(root):
    dataset = load_dataset("csv", root)
    assert (dataset.split, names(dataset)) == ("all", ["x/hen.jpg", "x/owl.jpg", "cat.jpg"])
    assert dataset.rules[0] == "All of captions.csv: 3 images."


def test_languages_choose_captions_not_images(root):
    dataset = load_dataset("csv", root, languages=["fr"])
    assert (texts(dataset), names(dataset)) == (["un chat"], ["x/hen.jpg", "x/owl.jpg", "cat.jpg"])
    assert dataset.rules[1:] == ["Captions in fr.", "1 caption of an image: 1."]


def test_an_unknown_language(root):
    with pytest.raises(CaptionsError, match="captions.csv has no captions in 'pl': choose from 'de', 'en', 'fr'."):
        load_dataset("csv", root, languages=["pl"])


def test_the_first_captions_of_each_image(root):
    dataset = load_dataset("csv", root, split="test", captions_per_image=1)
    assert texts(dataset) == ["a hen", "eine Henne", "an owl", "eine Eule"]
    assert dataset.rules[-1] == "The first 1 caption of an image in each language: 4 of 5."
    with pytest.raises(CaptionsError, match="^0 captions of each image are none. Keep at least 1.$"):
        load_dataset("csv", root, captions_per_image=0)


def test_images_that_are_not_on_disk_are_left_out_and_named_by_matching(root):
    (root / "x" / "hen.jpg").unlink()
    dataset = load_dataset("csv", root)
    assert names(dataset) == ["x/owl.jpg", "cat.jpg"]
    assert dataset.rules[:2] == ["All of captions.csv: 3 images.", "Not on disk and left out: 1 image."]
    matched = match_captions(dataset.captions.captions, names(dataset))
    assert (matched.texts, matched.missing) == (["an owl", "eine Eule", "un chat"], ["hen.jpg"])


def test_names_that_fit_several_files_are_left_out(root, lay_out):
    lay_out({"copies/hen.jpg": None})
    dataset = load_dataset("csv", root)
    assert names(dataset) == ["x/owl.jpg", "cat.jpg"]
    assert dataset.rules[1] == "Left out, as several files fit: 1 image, such as 'hen.jpg'."


def test_folders_in_names_tell_files_apart(lay_out):
    content = "image\tcaption\na/1.jpg\tone\nb/1.jpg\ttwo\n"
    root = lay_out({"captions.tsv": content, "images/b/1.jpg": None, "images/a/1.jpg": None})
    assert names(load_dataset("csv", root)) == ["images/a/1.jpg", "images/b/1.jpg"]


def test_images_in_tars(lay_out, tar, jpeg):
    root = lay_out({"captions.tsv": "image\tcaption\n1.jpg\tone\n2.jpg\ttwo\n3.jpg\tthree\n", "1.jpg": None})
    tar(root / "more.tar", {"1.jpg": jpeg("red"), "2.jpg": jpeg("lime")})
    tar(root / "x" / "most.tar", {"./3.jpg": jpeg("blue")})
    dataset = load_dataset("csv", root)
    assert names(dataset) == ["1.jpg", "more/2.jpg", "x/most/3.jpg"]
    assert [source.read() for source in dataset.images] == [jpeg(), jpeg("lime"), jpeg("blue")]
    assert dataset.images[1].path == root / "more.tar"


def test_linked_folders_are_followed_and_loops_end(lay_out, tmp_path, jpeg):
    root = lay_out({"captions.tsv": "image\tcaption\n1.jpg\tone\n"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(jpeg())
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert names(load_dataset("csv", root)) == ["images/1.jpg"]


def test_hidden_files_and_collections_are_not_looked_at(lay_out):
    contents = {"captions.tsv": "image\tcaption\n1.jpg\tone\n", "images/1.jpg": None}
    root = lay_out({**contents, ".cache/1.jpg": None, "x.collection/1.jpg": None, "y/._1.jpg": None})
    assert names(load_dataset("csv", root)) == ["images/1.jpg"]


def test_many_files_of_one_name_are_found_in_one_walk(lay_out):
    rows = [f"{folder:04}/image.jpg\tcaption {folder}" for folder in range(2_000)]
    root = lay_out({"captions.tsv": "\n".join(["image\tcaption", *rows])})
    for folder in range(2_000):
        (root / f"images/{folder:04}").mkdir(parents=True)
        (root / f"images/{folder:04}/image.jpg").touch()
    assert names(load_dataset("csv", root)) == [f"images/{folder:04}/image.jpg" for folder in range(2_000)]


def test_damaged_lines_and_blank_captions_are_passed_on(lay_out):
    root = lay_out({"captions.csv": "image,caption,x\n1.jpg,one,\n1.jpg,,\n2.jpg,two\n", "1.jpg": None})
    dataset = load_dataset("csv", root)
    assert dataset.rules == ["All of captions.csv: 1 image.", "1 caption of an image: 1."]
    assert dataset.captions.empty == 1
    assert dataset.captions.malformed == ["line 4 has 2 fields, the header 3"]


class TestRefusals:
    def test_an_unknown_name(self, tmp_path):
        with pytest.raises(DatasetError, match="^There is no data set 'flickr80k'. Choose flickr8k or flickr30k.$"):
            load_dataset("flickr80k", tmp_path)
        with pytest.raises(DatasetError, match=f"'zzz'. Choose {' or '.join(DATASETS)}.$"):
            load_dataset("zzz", tmp_path)

    @pytest.mark.parametrize("name", DATASETS)
    def test_a_folder_that_is_not_there(self, name, tmp_path):
        with pytest.raises(DatasetError) as caught:
            load_dataset(name, tmp_path / "gone")
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'gone'} does not exist.\nExpected for {name}:\n    ROOT/")
        assert "\nWhere to get it: " in message

    @pytest.mark.parametrize(
        ("name", "looked_for"),
        [
            ("flickr8k", "any of captions.tsv, dataset_flickr8k.json, Flickr8k.token.txt, captions.txt"),
            ("flickr30k", "any of dataset_flickr30k.json, flickr_annotations_30k.csv, flickr30k_test_karpathy.txt"),
            ("coco", "any of dataset_coco.json, coco_test_karpathy.json, coco_karpathy_test.json"),
            ("coco-val2017", "annotations/captions_val2017.json"),
            ("xm3600", "captions.jsonl"),
            ("xtd10", "any of test_1kcaptions_LANGUAGE.txt, multilingual_mscoco_captions-LANGUAGE.json"),
            ("webdataset", "test/nshards.txt"),
            ("csv", "any of captions.csv, captions.tsv, captions.jsonl, captions.json"),
        ],
    )
    def test_another_layout_says_what_was_looked_for_and_what_is_there(self, name, looked_for, lay_out):
        root = lay_out({"photos/a.jpg": None, "readme.md": "x"})
        with pytest.raises(DatasetError) as caught:
            load_dataset(name, root)
        first, second, *tree, last = str(caught.value).split("\n")
        assert first == f"{root} does not hold {looked_for}. It holds 'photos/', 'readme.md'."
        assert second == f"Expected for {name}:"
        assert all(line.startswith("    ") for line in tree)
        assert last.startswith("Where to get it: ")

    def test_a_file_or_nothing(self, lay_out, tmp_path):
        root = lay_out({"a.txt": "x"})
        with pytest.raises(DatasetError, match="a.txt is not a folder"):
            load_dataset("csv", root / "a.txt")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match="It is empty."):
            load_dataset("csv", tmp_path / "empty")

    def test_no_image_on_disk(self, lay_out):
        root = lay_out({"captions.csv": CSV, "dog.jpg": None})
        with pytest.raises(DatasetError) as caught:
            load_dataset("csv", root)
        assert str(caught.value).startswith(
            f"None of the 3 images named in {root / 'captions.csv'}, such as 'hen.jpg', can be found below {root}: "
            "not as files and not in tars.\nExpected for csv:"
        )

    def test_every_image_twice(self, lay_out):
        root = lay_out({"captions.csv": "image,caption\na.jpg,x\n", "1/a.jpg": None, "2/a.jpg": None})
        with pytest.raises(DatasetError, match="each fits several files; keep one copy"):
            load_dataset("csv", root)

    def test_an_unknown_split(self, root):
        with pytest.raises(CaptionsError, match=re.escape("has no split 'val': choose from 'test', 'train'.")):
            load_dataset("csv", root, split="val")
