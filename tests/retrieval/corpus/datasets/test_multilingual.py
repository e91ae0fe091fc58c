import json

import pytest

from retrieval.corpus.captions import match_captions
from retrieval.corpus.datasets import load_dataset
from retrieval.errors import CaptionsError, DatasetError


def captions(dataset):
    return [(caption.image, caption.language, caption.text) for caption in dataset.captions.captions]


class TestXm3600:
    LINES = [
        {"image/key": "0a", "en": {"caption": ["a hen", "hens"]}, "ja": {"caption": ["めんどり"]}},
        {"image/key": "0b", "en": {"caption": ["an owl"]}, "ja": {"caption": ["フクロウ"]}},
    ]

    @pytest.fixture
    def root(self, lay_out):
        lines = "\n".join(map(json.dumps, self.LINES))
        return lay_out({"captions.jsonl": lines, "images/0b.jpg": None, "images/0a.jpg": None})

    def test_all_languages(self, root):
        dataset = load_dataset("xm3600", root)
        assert [source.name for source in dataset.images] == ["images/0a.jpg", "images/0b.jpg"]
        assert captions(dataset) == [
            ("0a", "en", "a hen"), ("0a", "en", "hens"), ("0a", "ja", "めんどり"),
            ("0b", "en", "an owl"), ("0b", "ja", "フクロウ"),
        ]
        assert dataset.rules[:2] == ["Crossmodal-3600 (captions.jsonl): 2 images.", "Captions in 2 languages: en, ja."]

    def test_one_language(self, root):
        dataset = load_dataset("xm3600", root, languages=("ja",), captions_per_image=1)
        assert captions(dataset) == [("0a", "ja", "めんどり"), ("0b", "ja", "フクロウ")]
        matched = match_captions(dataset.captions.captions, [source.name for source in dataset.images])
        assert (matched.documents.tolist(), matched.missing) == ([0, 1], [])

    def test_one_split(self, root):
        with pytest.raises(DatasetError, match="xm3600 has no split 'val': choose from 'test'."):
            load_dataset("xm3600", root, split="val")


class TestXtd10:
    IMAGES = {"train2014/COCO_train2014_1.jpg": None, "val2014/COCO_val2014_2.jpg": None}
    NAMES = "COCO_val2014_2.jpg\nCOCO_train2014_1.jpg\n"

    @pytest.fixture
    def root(self, lay_out):
        return lay_out({
            **self.IMAGES,
            "XTD10/test_image_names.txt": self.NAMES,
            "XTD10/test_1kcaptions_ko.txt": "올빼미\n암탉",
            "MIC/test_1kcaptions_de.txt": "eine Eule\r\neine Henne\r\n",
            "STAIR/test_1kcaptions_jp.txt": "フクロウ\nめんどり\n",
        })

    def test_line_by_line(self, root):
        dataset = load_dataset("xtd10", root)
        assert [source.name for source in dataset.images] == [
            "val2014/COCO_val2014_2.jpg", "train2014/COCO_train2014_1.jpg"
        ]
        assert captions(dataset) == [
            ("COCO_val2014_2.jpg", "de", "eine Eule"), ("COCO_train2014_1.jpg", "de", "eine Henne"),
            ("COCO_val2014_2.jpg", "ja", "フクロウ"), ("COCO_train2014_1.jpg", "ja", "めんどり"),
            ("COCO_val2014_2.jpg", "ko", "올빼미"), ("COCO_train2014_1.jpg", "ko", "암탉"),
        ]
        assert dataset.rules == [
            "XTD10's test images: 2 images.", "Captions in 3 languages: de, ja, ko.",
            "1 caption of an image in each language: 6.",
        ]

    def test_languages(self, root):
        assert captions(load_dataset("xtd10", root, languages=["ko"])) == [
            ("COCO_val2014_2.jpg", "ko", "올빼미"), ("COCO_train2014_1.jpg", "ko", "암탉")
        ]
        with pytest.raises(CaptionsError, match="root has no captions in 'jp': choose from 'de', 'ja', 'ko'."):
            load_dataset("xtd10", root, languages=["jp"])

    def test_names_beside_the_captions_are_theirs(self, root, lay_out):
        lay_out({"MIC/test_image_names.txt": "COCO_train2014_1.jpg\nCOCO_val2014_2.jpg\n"})
        assert captions(load_dataset("xtd10", root, languages=["de"]))[0] == ("COCO_train2014_1.jpg", "de", "eine Eule")

    def test_a_blank_line_keeps_its_place(self, root, lay_out):
        lay_out({"XTD10/test_1kcaptions_ko.txt": "\n암탉\n"})
        dataset = load_dataset("xtd10", root, languages=["ko"])
        assert captions(dataset) == [("COCO_train2014_1.jpg", "ko", "암탉")]
        assert dataset.captions.empty == 1

    def test_files_that_do_not_belong_together(self, root, lay_out):
        lay_out({"XTD10/test_1kcaptions_ko.txt": "올빼미\n"})
        with pytest.raises(DatasetError, match="test_1kcaptions_ko.txt has 1 lines, but .*test_image_names.txt 2"):
            load_dataset("xtd10", root)

    def test_no_names(self, root):
        (root / "XTD10" / "test_image_names.txt").unlink()
        with pytest.raises(DatasetError, match="does not hold test_image_names.txt. It holds 'MIC/', 'STAIR/'"):
            load_dataset("xtd10", root)

    def test_the_files_of_clip_benchmark(self, lay_out):
        paths = ["val2014/COCO_val2014_2.jpg", "train2014/COCO_train2014_1.jpg"]
        contents = {"jp": ["フクロウ", "めんどり"], "en": ["an owl", "a hen"]}
        root = lay_out({
            **self.IMAGES,
            **{
                f"multilingual_mscoco_captions-{language}.json": {"image_paths": paths, "annotations": texts}
                for language, texts in contents.items()
            },
        })
        dataset = load_dataset("xtd10", root)
        assert [source.name for source in dataset.images] == paths
        assert captions(dataset) == [
            (paths[0], "en", "an owl"), (paths[1], "en", "a hen"),
            (paths[0], "ja", "フクロウ"), (paths[1], "ja", "めんどり"),
        ]
