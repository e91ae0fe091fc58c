import pytest

from retrieval.corpus.datasets import load_dataset
from retrieval.errors import DatasetError

IMAGES = {
    f"images/{folder}/COCO_{folder}_00000000000{number}.jpg": None
    for folder, number in [("val2014", 1), ("val2014", 2), ("train2014", 3)]
}


def karpathy_image(folder, number, split, captions=5):
    sentences = [{"raw": f"{number}, caption {n}", "sentid": 10 * number + n} for n in range(captions)]
    name = f"COCO_{folder}_00000000000{number}.jpg"
    return {"filepath": folder, "filename": name, "cocoid": number, "imgid": 90, "split": split, "sentences": sentences}


def found(dataset):
    return [source.name for source in dataset.images], [caption.id for caption in dataset.captions.captions]


@pytest.fixture
def karpathy(lay_out):
    images = [
        karpathy_image("val2014", 1, "test"), karpathy_image("val2014", 2, "test", captions=6),
        karpathy_image("val2014", 4, "test"), karpathy_image("train2014", 3, "train"),
    ]
    return lay_out({**IMAGES, "dataset_coco.json": {"images": images}})


def test_karpathy_s_test_split(karpathy):
    dataset = load_dataset("coco", karpathy)
    names, ids = found(dataset)
    assert names == ["images/val2014/COCO_val2014_000000000001.jpg", "images/val2014/COCO_val2014_000000000002.jpg"]
    assert ids[:6] == ["10", "11", "12", "13", "14", "20"]
    assert dataset.captions.captions[5].image_key == "2"
    assert dataset.rules == [
        "Karpathy's test split (dataset_coco.json): 3 images.",
        "Not on disk and left out: 1 image.",
        "All captions of an image: 16 (the first 5 each would be 15: --captions-per-image 5).",
    ]


def test_five_captions_each(karpathy):
    dataset = load_dataset("coco", karpathy, captions_per_image=5)
    assert "25" not in found(dataset)[1] and "24" in found(dataset)[1]
    assert dataset.rules[-1] == "The first 5 captions of an image: 15 of 16."


def test_karpathy_s_train_split(karpathy):
    names, ids = found(load_dataset("coco", karpathy, split="train"))
    assert names == ["images/train2014/COCO_train2014_000000000003.jpg"]
    assert ids == ["30", "31", "32", "33", "34"]


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_files_of_other_projects(lay_out, split):
    name = "COCO_val2014_000000000002.jpg"
    coco = {"images": [{"id": 2, "file_name": name}], "annotations": [{"image_id": 2, "id": 7, "caption": "a hen"}]}
    root = lay_out({**IMAGES, f"coco_{split}_karpathy.json": coco})
    dataset = load_dataset("coco", root, split=split)
    assert found(dataset) == ([f"images/val2014/{name}"], ["7"])
    (root / f"coco_{split}_karpathy.json").unlink()
    root = lay_out({f"coco_karpathy_{split}.json": [{"image": f"val2014/{name}", "caption": ["a hen", "hens"]}]})
    dataset = load_dataset("coco", root, split=split)
    assert found(dataset) == ([f"images/val2014/{name}"], ["", ""])


VAL2017 = {
    "images": [{"id": 2, "file_name": "0002.jpg"}, {"id": 1, "file_name": "0001.jpg"}],
    "annotations": [{"image_id": 1, "id": 5, "caption": "one"}, {"image_id": 2, "id": 6, "caption": "two"}],
}


def test_val2017_takes_images_from_its_own_folder(lay_out):
    names = ["val2017/0001.jpg", "val2017/0002.jpg", "thumbnails/0001.jpg", "0002.jpg"]
    root = lay_out({**dict.fromkeys(names), "annotations/captions_val2017.json": VAL2017})
    dataset = load_dataset("coco-val2017", root)
    assert found(dataset) == (["val2017/0001.jpg", "val2017/0002.jpg"], ["5", "6"])
    assert dataset.split == "val"
    assert dataset.rules[0] == "COCO's validation images of 2017 (captions_val2017.json): 2 images."


def test_val2017_has_one_split(lay_out):
    root = lay_out({"val2017/0001.jpg": None, "captions_val2017.json": VAL2017})
    with pytest.raises(DatasetError, match="^coco-val2017 has no split 'test': choose from 'val'.$"):
        load_dataset("coco-val2017", root, split="test")
