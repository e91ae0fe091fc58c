"""One's own images beside one captions file."""

from __future__ import annotations

from retrieval.corpus.captions import read_captions
from retrieval.corpus.datasets.files import ALL, Files, Listed, split_or_none

CSV_TREE = """\
    ROOT/captions.csv                 or .tsv, .jsonl, .json, with columns image and caption, and perhaps
                                      split, language, caption_id
    ROOT/**/*.jpg                     images, in any folders"""
CSV_HOME = "yourself"
_NAMES = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.json")


def csv(files: Files, split: str) -> Listed:
    name = next((name for name in _NAMES if name in files.names), None)
    if not name:
        raise files.lacks(*_NAMES)
    whose = f"All of {name}" if split == ALL else f"The {split} split of {name}"
    return Listed(read_captions(files.root / name, split=split_or_none(split)), whose)
