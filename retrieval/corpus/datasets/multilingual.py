"""Captions of one set of images in many languages: Crossmodal-3600 and XTD10."""

from __future__ import annotations

import io
from pathlib import Path

from retrieval.corpus.captions import CaptionSet, read_captions
from retrieval.corpus.datasets.files import Files, Listed, refuse_other_splits
from retrieval.corpus.layouts import LANGUAGE_CODES, Caption
from retrieval.corpus.records import read_text
from retrieval.errors import DatasetError

XM3600_TREE = """\
    ROOT/images/*.jpg
    ROOT/captions.jsonl"""
XM3600_HOME = "google.github.io/crossmodal-3600"
XTD10_TREE = """\
    ROOT/val2014/*.jpg                and train2014/*.jpg, of MS-COCO
    ROOT/XTD10/test_image_names.txt
    ROOT/XTD10/test_1kcaptions_LANGUAGE.txt   and in MIC/ and STAIR/;
                                      or multilingual_mscoco_captions-LANGUAGE.json"""
XTD10_HOME = "captions: github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10; images: cocodataset.org (2014)"

_XTD10_CAPTIONS = r"test_1kcaptions_([a-z]{2,3})\.txt"
_XTD10_JSON = r"multilingual_mscoco_captions-([a-z]{2,3})\.json"
_XTD10_IMAGES = "test_image_names.txt"


def xm3600(files: Files, split: str) -> Listed:
    refuse_other_splits(split, ["test"], "xm3600")
    path = files.find("captions.jsonl")
    if not path:
        raise files.lacks("captions.jsonl")
    return Listed(read_captions(path), "Crossmodal-3600 (captions.jsonl)")


def xtd10(files: Files, split: str) -> Listed:
    refuse_other_splits(split, ["test"], "xtd10")
    tables, jsons = files.matching(_XTD10_CAPTIONS), files.matching(_XTD10_JSON)
    if tables:
        sets = [_by_line(files, path, language) for language, path in sorted(tables.items())]
    elif jsons:
        sets = [read_captions(path) for _, path in sorted(jsons.items())]
    else:
        raise files.lacks("test_1kcaptions_LANGUAGE.txt", "multilingual_mscoco_captions-LANGUAGE.json")
    joined = CaptionSet(
        [caption for one in sets for caption in one.captions],
        "xtd10", sum(one.empty for one in sets), files.root,
    )
    return Listed(joined, "XTD10's test images")


def _by_line(files: Files, path: Path, language: str) -> CaptionSet:
    """Line n of the captions belongs to line n of the images' names."""
    beside = path.with_name(_XTD10_IMAGES)
    names_path = beside if beside.is_file() else files.find(_XTD10_IMAGES)
    if not names_path:
        raise files.lacks(_XTD10_IMAGES)
    names, texts = _lines(names_path), _lines(path)
    if len(names) != len(texts):
        raise DatasetError(
            f"{path} has {len(texts):,} lines, but {names_path} {len(names):,}: they do not belong together. "
            "Fetch both again."
        )
    code = LANGUAGE_CODES.get(language, language)
    captions = [Caption(name, text, language=code) for name, text in zip(names, texts) if text]
    return CaptionSet(captions, "xtd10", len(texts) - len(captions), path)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in io.StringIO(read_text(path).rstrip("\r\n"), newline=None)]
