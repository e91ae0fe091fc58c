"""Flickr8k and Flickr30k: photos with five captions each."""

from __future__ import annotations

from dataclasses import replace

from retrieval.corpus.captions import CaptionSet, read_captions
from retrieval.corpus.datasets.files import ALL, Files, Listed, refuse_other_splits, split_or_none, split_title
from retrieval.corpus.records import numbered_lines, read_text
from retrieval.errors import DatasetError

FLICKR8K_TREE = """\
    ROOT/Images/*.jpg                 or Flicker8k_Dataset/, or test.tar and train.tar
    ROOT/dataset_flickr8k.json        or captions.tsv with the columns split, image, caption; or
                                      Flickr8k.token.txt or captions.txt, beside Flickr_8k.testImages.txt"""
FLICKR8K_HOME = (
    "the request form of the University of Illinois (Flickr8k_Dataset.zip, Flickr8k_text.zip), or copies on "
    "Kaggle and the model hub; splits: caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent"
)
FLICKR30K_TREE = """\
    ROOT/flickr30k-images/*.jpg       or any folder
    ROOT/dataset_flickr30k.json       or flickr_annotations_30k.csv, or flickr30k_test_karpathy.txt"""
FLICKR30K_HOME = (
    "the request form of the University of Illinois (shannon.cs.illinois.edu/DenotationGraph), or the model "
    "hub's copy; splits: caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent"
)
_LISTS = {"test": "testImages", "train": "trainImages", "val": "devImages", "dev": "devImages"}


def flickr8k(files: Files, split: str) -> Listed:
    path = files.find("captions.tsv", "dataset_flickr8k.json")
    if path:
        whose = "Karpathy's" if path.suffix == ".json" else "The"
        return Listed(read_captions(path, split=split_or_none(split)), split_title(whose, split, path.name))
    path = files.find(f"flickr8k_{split}_karpathy.txt")
    if path:
        return Listed(read_captions(path), split_title("Karpathy's", split, path.name))
    path = files.find("Flickr8k.token.txt", "captions.txt")
    if not path:
        raise files.lacks("captions.tsv", "dataset_flickr8k.json", "Flickr8k.token.txt", "captions.txt")
    captions = read_captions(path)
    if split == ALL:
        return Listed(captions, split_title("The", split, path.name))
    refuse_other_splits(split, list(_LISTS), "flickr8k")
    names = files.find(f"Flickr_8k.{_LISTS[split]}.txt")
    if not names:
        raise DatasetError(
            f"{path} names no splits, and Flickr_8k.{_LISTS[split]}.txt is not below {files.root}. "
            f"Put it beside {path.name} (it is in Flickr8k_text.zip), or choose the split '{ALL}'."
        )
    wanted = {line.strip() for _, line in numbered_lines(read_text(names, "list of images"))}
    return Listed(_of_images(captions, wanted, names.name), split_title("The official", split, names.name))


def flickr30k(files: Files, split: str) -> Listed:
    path = files.find("dataset_flickr30k.json", "flickr_annotations_30k.csv")
    if path:
        return Listed(read_captions(path, split=split_or_none(split)), split_title("Karpathy's", split, path.name))
    path = files.find(f"flickr30k_{split}_karpathy.txt")
    if path:
        return Listed(read_captions(path), split_title("Karpathy's", split, path.name))
    path = files.find("results.csv", "results_20130124.token")
    if not path:
        raise files.lacks("dataset_flickr30k.json", "flickr_annotations_30k.csv", f"flickr30k_{split}_karpathy.txt")
    if split != ALL:
        raise DatasetError(
            f"{path} names no splits, so the images of '{split}' are not known. Put dataset_flickr30k.json beside it "
            f"(caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent), or choose the split '{ALL}'."
        )
    return Listed(read_captions(path), split_title("The", split, path.name))


def _of_images(found: CaptionSet, names: set[str], source: str) -> CaptionSet:
    captions = [caption for caption in found.captions if caption.image in names]
    if not captions:
        raise DatasetError(
            f"{found.source} captions none of the images that {source} lists. Give files that belong together."
        )
    return replace(found, captions=captions)
