import json
from dataclasses import replace

import pytest

from retrieval.corpus.captions import Caption, match_captions, read_captions

HEN, OWL = Caption("hen.jpg", "a hen on a fence"), Caption("owl.jpg", "an owl asleep")


class TestTokens:
    def test_reads_names_and_captions(self, write):
        found = read_captions(write("hen.jpg#0\ta hen on a fence\nhen.jpg#1\t \n\nowl.jpg#0\tan owl asleep\n"))
        assert found.captions == [replace(HEN, id="hen.jpg#0"), replace(OWL, id="owl.jpg#0")]
        assert (found.layout, found.empty) == ("flickr8k-tokens", 1)

    def test_names_may_hold_the_mark(self, write):
        assert read_captions(write("hen#2.jpg#10\tx\n")).captions == [Caption("hen#2.jpg", "x", id="hen#2.jpg#10")]

    def test_a_malformed_line(self, refusal):
        assert "line 2 is not name.jpg#0, a tab and a caption" in refusal("hen.jpg#0\ta hen\nowl.jpg an owl\n")

    def test_has_no_splits(self, refusal):
        assert "the file names no splits" in refusal("hen.jpg#0\ta hen\n", split="test")


class TestCoco:
    IMAGES = [{"id": 7, "file_name": "hen.jpg"}, {"id": 9, "file_name": "owl.jpg"}]

    def test_joins_captions_to_images(self, write_json):
        captions = [(9, "an owl asleep"), (7, " a hen on a fence\n"), (7, "")]
        annotations = [{"image_id": image, "caption": text, "id": 40 + image} for image, text in captions]
        found = read_captions(write_json({"info": {}, "images": self.IMAGES, "annotations": annotations}))
        assert found.captions == [replace(OWL, id="49", image_key="9"), replace(HEN, id="47", image_key="7")]
        assert (found.layout, found.empty) == ("coco", 1)

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            ({"image_id": 8, "caption": "x"}, "captions image 8, which is not listed"),
            ({"image_id": 7, "bbox": []}, "has no usable 'caption'"),
            ("x", "has no usable 'image_id'"),
        ],
    )
    def test_malformed_entries(self, refusal, annotation, message):
        content = json.dumps({"images": self.IMAGES, "annotations": [annotation]})
        assert f"annotations[0] {message}" in refusal(content)

    def test_an_image_without_a_name(self, refusal):
        assert "images[0] has no usable 'file_name'" in refusal(json.dumps({"images": [{"id": 7}], "annotations": []}))

    def test_has_no_splits(self, refusal):
        annotations = [{"image_id": 7, "caption": "x"}]
        content = json.dumps({"images": self.IMAGES, "annotations": annotations})
        assert "the file names no splits" in refusal(content, split="test")


class TestKarpathy:
    IMAGES = [
        {"filename": "hen.jpg", "split": "train", "sentences": [{"raw": "a hen on a fence"}, {"raw": " "}]},
        {"filename": "owl.jpg", "filepath": "val2014", "split": "restval", "sentences": [{"raw": "an owl asleep"}]},
    ]

    def test_reads_every_split(self, write_json):
        found = read_captions(write_json({"dataset": "x", "images": self.IMAGES}))
        assert found.captions == [HEN, Caption("val2014/owl.jpg", "an owl asleep")]
        assert (found.layout, found.empty) == ("karpathy", 1)

    @pytest.mark.parametrize(("numbers", "key"), [({"imgid": 3}, "3"), ({"imgid": 3, "cocoid": 391895}, "391895")])
    def test_numbers_of_captions_and_images(self, write_json, numbers, key):
        sentences = [{"raw": "a hen on a fence", "sentid": 0}, {"raw": "an owl", "sentid": 12}]
        found = read_captions(write_json({"images": [{"filename": "hen.jpg", "sentences": sentences, **numbers}]}))
        assert found.captions == [
            replace(HEN, id="0", image_key=key), Caption("hen.jpg", "an owl", id="12", image_key=key)
        ]

    def test_train_leaves_out_restval(self, write_json):
        assert read_captions(write_json({"images": self.IMAGES}), split="train").captions == [HEN]

    def test_an_unknown_split_lists_those_present(self, refusal):
        assert "choose from 'restval', 'train'" in refusal(json.dumps({"images": self.IMAGES}), split="test")

    def test_malformed_entries(self, refusal):
        tokens = {"filename": "owl.jpg", "sentences": [{"tokens": ["an", "owl"]}]}
        assert "images[1].sentences[0] has no usable 'raw'" in refusal(json.dumps({"images": [self.IMAGES[0], tokens]}))
        assert "images[1] has no usable 'filename'" in refusal(json.dumps({"images": [self.IMAGES[0], 3]}))


class TestTableOfTheHub:
    """flickr_annotations_30k.csv: one line an image, lists as JSON in CSV quotes."""

    HEADER = "raw,sentids,split,filename,img_id\n"
    HEN_LINE = '"[""a hen on a fence"", ""a \\""hen\\"", here""]","[5, 6]",test,hen.jpg,1\n'
    OWL_LINE = '"[""an owl asleep""]",[7],train,owl.jpg,2\n'

    def test_lists_of_captions(self, write):
        found = read_captions(write(self.HEADER + self.HEN_LINE + self.OWL_LINE), split="test")
        assert found.captions == [
            replace(HEN, id="5", image_key="1"), Caption("hen.jpg", 'a "hen", here', id="6", image_key="1")
        ]

    def test_a_list_cut_off(self, refusal):
        assert "line 2 is not valid JSON" in refusal(self.HEADER + '"[""a hen""",[1],test,hen.jpg,1\n')


class TestRecords:
    def test_one_a_line(self, write):
        lines = [
            {"image": "hen.jpg", "caption": "a hen on a fence", "id": 4, "language": "en", "split": "test"},
            {"image": "owl.jpg", "caption": ["an owl asleep", " "], "split": "train", "image_id": 9, "more": {}},
        ]
        path = write("\n".join(map(json.dumps, lines)) + "\n\n", "captions.jsonl")
        found = read_captions(path)
        assert found.captions == [replace(HEN, id="4", language="en"), replace(OWL, image_key="9")]
        assert (found.layout, found.empty) == ("json-lines", 1)
        assert read_captions(path, split="train").captions == [replace(OWL, image_key="9")]

    def test_one_line_alone(self, write):
        assert read_captions(write('{"File_Name": "hen.jpg", "text": "a hen on a fence"}')).captions == [HEN]

    def test_a_list_of_them(self, write_json):
        entries = [
            {"image": "hen.jpg", "caption": ["a hen on a fence", "a hen"], "caption_id": ["h1", "h2"]},
            {"image": "owl.jpg", "caption": ["an owl asleep", "an owl"], "id": 3},
        ]
        found = read_captions(write_json(entries))
        assert found.captions == [
            replace(HEN, id="h1"), Caption("hen.jpg", "a hen", id="h2"), OWL, Caption("owl.jpg", "an owl")
        ]
        assert found.layout == "records"

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2 is not one JSON object"),
            ("[1]", "line 2 is not a JSON object"),
            (
                '{"imge": "a.jpg", "caption": "x"}',
                "line 2 has no image column; its header reads 'imge', 'caption'. Rename 'imge' to 'image'.",
            ),
            ('{"image": "a.jpg"}', "line 2 has no caption column"),
            ('{"image": 3, "caption": "x"}', "line 2 names no image"),
            ('{"image": "a.jpg", "caption": ["x", 3]}', "line 2 has a caption that is not text"),
        ],
    )
    def test_malformed_lines(self, refusal, line, message):
        assert message in refusal('{"image": "hen.jpg", "caption": "a hen"}\n' + line + "\n")


class TestXm3600:
    LINES = [
        {"image/key": "0004", "image/locale": "cs",
         "en": {"caption": ["a hen", "hens"], "caption/tokenized": ["a hen"]}, "de": {"caption": ["eine Henne"]}},
        {"image/key": "00aa", "image/locale": "bn", "en": {"caption": ["an owl"]}, "de": {"caption": []}},
    ]

    def test_captions_of_all_languages(self, write):
        found = read_captions(write("\n".join(map(json.dumps, self.LINES)), "captions.jsonl"))
        assert [(one.image, one.language, one.text) for one in found.captions] == [
            ("0004", "en", "a hen"), ("0004", "en", "hens"), ("0004", "de", "eine Henne"), ("00aa", "en", "an owl"),
        ]
        assert found.layout == "xm3600"

    def test_the_key_finds_the_image(self, write):
        captions = read_captions(write("\n".join(map(json.dumps, self.LINES)), "captions.jsonl")).captions
        assert match_captions(captions, ["images/00aa.jpg", "images/0004.jpg"]).documents.tolist() == [1, 1, 1, 0]

    def test_a_language_without_captions(self, refusal):
        assert "line 1, en has no usable 'caption'" in refusal('{"image/key": "0004", "en": {"captions": ["x"]}}')


class TestImagePaths:
    CONTENT = {"image_paths": ["val2014/hen.jpg", "owl.jpg"], "annotations": ["a hen", ["an owl", "owls"]]}

    @pytest.mark.parametrize(
        ("name", "language"),
        [
            ("multilingual_mscoco_captions-zh.json", "zh"), ("captions-jp.json", "ja"),
            ("captions.json", ""), ("x-test.json", ""),
        ],
    )
    def test_the_file_name_tells_the_language(self, write, name, language):
        found = read_captions(write(json.dumps(self.CONTENT), name))
        assert found.captions == [
            Caption("val2014/hen.jpg", "a hen", language=language),
            Caption("owl.jpg", "an owl", language=language),
            Caption("owl.jpg", "owls", language=language),
        ]
        assert found.layout == "image-paths"

    def test_as_many_captions_as_images(self, refusal):
        content = {**self.CONTENT, "annotations": ["a hen"]}
        assert "has 2 image_paths and 1 annotations" in refusal(json.dumps(content))
