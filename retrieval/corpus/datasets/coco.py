"""MS-COCO: Karpathy's splits of the images of 2014, and the validation images of 2017."""

from __future__ import annotations

from retrieval.corpus.captions import read_captions
from retrieval.corpus.datasets.files import Files, Listed, refuse_other_splits, split_or_none, split_title

COCO_TREE = """\
    ROOT/val2014/*.jpg                and train2014/*.jpg for the split train
    ROOT/dataset_coco.json            or coco_test_karpathy.json, or coco_karpathy_test.json"""
COCO_HOME = (
    "images: cocodataset.org (2014 train and val); splits: caption_datasets.zip at "
    "cs.stanford.edu/people/karpathy/deepimagesent"
)
VAL2017_TREE = """\
    ROOT/val2017/*.jpg
    ROOT/annotations/captions_val2017.json"""
VAL2017_HOME = "cocodataset.org (2017 val images, 2017 train/val annotations)"


def coco(files: Files, split: str) -> Listed:
    path = files.find("dataset_coco.json")
    if path:
        return Listed(read_captions(path, split=split_or_none(split)), split_title("Karpathy's", split, path.name))
    names = [f"coco_{split}_karpathy.json", f"coco_karpathy_{split}.json"]
    path = files.find(*names)
    if not path:
        raise files.lacks("dataset_coco.json", *names)
    return Listed(read_captions(path), f"Karpathy's {split} split ({path.name})")


def val2017(files: Files, split: str) -> Listed:
    refuse_other_splits(split, ["val"], "coco-val2017")
    path = files.find("captions_val2017.json")
    if not path:
        raise files.lacks("annotations/captions_val2017.json")
    return Listed(read_captions(path), "COCO's validation images of 2017 (captions_val2017.json)", folder="val2017")
