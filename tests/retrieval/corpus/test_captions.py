import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from retrieval.corpus.captions import Caption, match_captions, read_captions
from retrieval.errors import CaptionsError

FLICKR8K = Path(__file__).parents[4] / "shared" / "data" / "flickr8k" / "captions.tsv"

HEN, OWL = Caption("hen.jpg", "a hen on a fence"), Caption("owl.jpg", "an owl asleep")


@pytest.fixture
def write(tmp_path):
    def write(content, name="captions.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


@pytest.fixture
def write_json(write):
    return lambda content: write(json.dumps(content), "captions.json")


@pytest.fixture
def refusal(write):
    """The message with which a file of this content is refused."""

    def refusal(content, **options):
        with pytest.raises(CaptionsError) as caught:
            read_captions(write(content), **options)
        return str(caught.value)

    return refusal


class TestTables:
    @pytest.mark.parametrize(
        "content",
        [
            "image\tcaption\nhen.jpg\ta hen on a fence\nowl.jpg\tan owl asleep\n",
            "image,caption\nhen.jpg,a hen on a fence\nowl.jpg,an owl asleep",
            "image;caption\nhen.jpg;a hen on a fence\nowl.jpg;an owl asleep\n",
            "image_name| comment_number| comment\nhen.jpg| 0| a hen on a fence\nowl.jpg| 0| an owl asleep\n",
            "Caption\tIMAGE\r\na hen on a fence\then.jpg\r\n\r\nan owl asleep\towl.jpg\r\n",
            "\ufeff\nfilepath,title\nhen.jpg,  a hen on a fence  \nowl.jpg,an owl asleep\n",
        ],
        ids=["tabs", "commas", "semicolons", "pipes", "windows", "byte-order mark"],
    )
    def test_delimiters_and_line_ends(self, write, content):
        path = write(content)
        found = read_captions(path)
        assert found.captions == [HEN, OWL]
        assert (found.layout, found.empty, found.source) == ("table", 0, path)

    @pytest.mark.parametrize("image", "image image_name image_path filename file_name file path filepath".split())
    @pytest.mark.parametrize("caption", "caption text comment title".split())
    def test_column_names(self, write, image, caption):
        assert read_captions(write(f"{image},{caption}\nhen.jpg,a hen on a fence\n")).captions == [HEN]

    def test_of_several_candidates_the_preferred_column_is_taken(self, write):
        content = "title,image_id,image_path,caption\nBirds,7,hen.jpg,a hen on a fence\n"
        assert read_captions(write(content)).captions == [HEN]

    def test_quotes_between_commas_are_csv(self, write):
        content = 'image,caption\nhen.jpg,"a hen, a fence and ""Keep out"""\nowl.jpg, "one\nowl"\n'
        assert [caption.text for caption in read_captions(write(content)).captions] == [
            'a hen, a fence and "Keep out"',
            "one\nowl",
        ]

    @pytest.mark.parametrize("delimiter", ["\t", "|"])
    def test_quotes_between_tabs_or_pipes_are_text(self, write, delimiter):
        content = f'image{delimiter}caption\nhen.jpg{delimiter}"Keep out" says a sign\nowl.jpg{delimiter}"an owl\n'
        assert [caption.text for caption in read_captions(write(content)).captions] == [
            '"Keep out" says a sign',
            '"an owl',
        ]

    def test_line_separators_inside_a_caption_do_not_end_the_line(self, write):
        found = read_captions(write("image\tcaption\nhen.jpg\ta hen\u2028on a\x0bfence\x85\n"))
        assert [caption.text for caption in found.captions] == ["a hen\u2028on a\x0bfence"]

    def test_blank_captions_are_dropped_and_counted(self, write):
        found = read_captions(write("image\tcaption\nhen.jpg\t\nhen.jpg\t  \nowl.jpg\tan owl asleep\n"))
        assert (found.captions, found.empty) == ([OWL], 2)

    SPLITS = "split\timage\tcaption\ntrain\then.jpg\ta hen on a fence\ntest\towl.jpg\tan owl asleep\ntest\towl.jpg\t\n"

    def test_a_split_alone(self, write):
        train, test = (read_captions(write(self.SPLITS), split=split) for split in ("train", "test"))
        assert (train.captions, train.empty) == ([HEN], 0)
        assert (test.captions, test.empty) == ([OWL], 1)

    def test_without_a_split_all_are_read(self, write):
        assert read_captions(write(self.SPLITS)).captions == [HEN, OWL]

    def test_an_unknown_split_lists_those_present(self, refusal):
        assert "has no split 'val': choose from 'test', 'train'." in refusal(self.SPLITS, split="val")

    def test_a_split_of_a_table_without_splits(self, refusal):
        assert "has no split 'val': the file names no splits" in refusal("image,caption\na.jpg,x\n", split="val")

    def test_no_image_column(self, refusal):
        message = refusal("Imge,caption\na.jpg,x\n")
        assert "has no image column; its header reads 'imge', 'caption'. Rename 'imge' to 'image'." in message

    def test_no_caption_column(self, refusal):
        # "file" resembles "title", but it is an image column already
        message = refusal("file\tlabel\na.jpg\tx\n")
        assert "has no caption column; its header reads 'file', 'label'." in message
        assert "Name one of them caption or text or comment or title." in message

    def test_no_header(self, refusal):
        assert "header reads 'a.jpg', 'a hen, a fence'" in refusal("a.jpg\ta hen, a fence\n")

    def test_too_many_fields(self, refusal):
        message = refusal("image,caption\na.jpg,x\nb.jpg,a hen, a fence\n")
        assert "line 3 has 3 fields, the header 2. A caption may hold no comma unless it is quoted." in message

    def test_too_few_fields(self, refusal):
        message = refusal("image| number| caption\na.jpg| 0| x\nb.jpg| 4 a hen\n")
        assert "line 3 has 2 fields, the header 3. A caption may hold no pipe." in message

    def test_a_quote_never_closed(self, refusal):
        assert "line 3: unexpected end of data" in refusal('image,caption\na.jpg,x\nb.jpg,"a hen\n')

    def test_a_line_without_an_image(self, refusal):
        assert "line 3 names no image" in refusal("image,caption\na.jpg,x\n,a hen\n")


class TestTokens:
    def test_reads_names_and_captions(self, write):
        found = read_captions(write("hen.jpg#0\ta hen on a fence\nhen.jpg#1\t \n\nowl.jpg#0\tan owl asleep\n"))
        assert (found.captions, found.layout, found.empty) == ([HEN, OWL], "flickr8k-tokens", 1)

    def test_names_may_hold_the_mark(self, write):
        assert read_captions(write("hen#2.jpg#10\tx\n")).captions == [Caption("hen#2.jpg", "x")]

    def test_a_malformed_line(self, refusal):
        assert "line 2 is not name.jpg#0, a tab and a caption" in refusal("hen.jpg#0\ta hen\nowl.jpg an owl\n")

    def test_has_no_splits(self, refusal):
        assert "the file names no splits" in refusal("hen.jpg#0\ta hen\n", split="test")


class TestCoco:
    IMAGES = [{"id": 7, "file_name": "hen.jpg"}, {"id": 9, "file_name": "owl.jpg"}]

    def test_joins_captions_to_images(self, write_json):
        captions = [(9, "an owl asleep"), (7, " a hen on a fence\n"), (7, "")]
        annotations = [{"image_id": image, "caption": text, "id": 1} for image, text in captions]
        found = read_captions(write_json({"info": {}, "images": self.IMAGES, "annotations": annotations}))
        assert (found.captions, found.layout, found.empty) == ([OWL, HEN], "coco", 1)

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

    def test_train_leaves_out_restval(self, write_json):
        assert read_captions(write_json({"images": self.IMAGES}), split="train").captions == [HEN]

    def test_an_unknown_split_lists_those_present(self, refusal):
        assert "choose from 'restval', 'train'" in refusal(json.dumps({"images": self.IMAGES}), split="test")

    def test_malformed_entries(self, refusal):
        tokens = {"filename": "owl.jpg", "sentences": [{"tokens": ["an", "owl"]}]}
        assert "images[1].sentences[0] has no usable 'raw'" in refusal(json.dumps({"images": [self.IMAGES[0], tokens]}))
        assert "images[1] has no usable 'filename'" in refusal(json.dumps({"images": [self.IMAGES[0], 3]}))


class TestUnusableFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(CaptionsError, match="There is no captions file .*nowhere.tsv"):
            read_captions(tmp_path / "nowhere.tsv")

    def test_a_folder(self, tmp_path):
        with pytest.raises(CaptionsError, match="is a folder. Give the captions file itself"):
            read_captions(tmp_path)

    def test_below_a_file(self, write):
        with pytest.raises(CaptionsError, match="cannot be read"):
            read_captions(write("x") / "captions.tsv")

    def test_not_utf8(self, refusal):
        message = refusal("image,caption\na.jpg,a caf\u00e9\n".encode("latin-1"))
        assert "is not UTF-8 text (line 2). Save it as UTF-8." in message

    @pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
    def test_empty(self, refusal, content):
        assert "is empty" in refusal(content)

    @pytest.mark.parametrize(
        "content", ["image,caption\n", "image,caption\na.jpg,\n", '{"images": [], "annotations": []}']
    )
    def test_no_captions(self, refusal, content):
        assert "holds no captions" in refusal(content)

    def test_malformed_json(self, refusal):
        message = refusal('{"images": [],\n "annotations": [}')
        assert "is not valid JSON: Expecting value, line 2, column 18." in message

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ('{"photos": [], "captions": []}', "its keys are 'photos', 'captions'"),
            ('{"images": [{"file": "a.jpg"}]}', "its keys are 'images'"),
            ("[1, 2]", "it is a list"),
        ],
    )
    def test_json_of_an_unknown_layout(self, refusal, content, found):
        message = refusal(content)
        assert f"unknown layout: {found}. Known are COCO's" in message
        assert "Karpathy's" in message


class TestMatchCaptions:
    def test_sorts_captions_and_documents_into_their_places(self):
        captions = [
            Caption("images/owl.jpg", "an owl"),
            Caption("gone.jpg", "lost"),
            Caption("hen.jpg", "a hen"),
            Caption("twin.jpg", "which?"),
            Caption("images/owl.jpg", "an owl again"),
            Caption("gone.jpg", "lost again"),
        ]
        ids = ["2019/hen.jpg", "a/twin.jpg", "b/twin.jpg", "owl.jpg"]
        matched = match_captions(captions, ids)
        assert matched.texts == ["an owl", "a hen", "an owl again"]
        assert matched.documents.dtype == np.int64
        assert matched.documents.tolist() == [3, 0, 3]
        assert matched.missing == ["gone.jpg"]
        assert matched.ambiguous == ["twin.jpg"]
        assert matched.uncaptioned == ["a/twin.jpg", "b/twin.jpg"]

    def test_nothing_matches(self):
        with pytest.raises(CaptionsError) as caught:
            match_captions([HEN, OWL], ["2019/cat.jpg"])
        assert str(caught.value) == (
            "None of the 2 images the captions name (such as 'hen.jpg') is among the 1 documents "
            "(such as '2019/cat.jpg'). Give the captions of these images."
        )

    def test_everything_is_ambiguous(self):
        with pytest.raises(CaptionsError, match="Some names fit several: give longer paths"):
            match_captions([HEN], ["a/hen.jpg", "b/hen.jpg"])

    def test_no_captions_or_no_documents(self):
        with pytest.raises(CaptionsError, match="None of the 0 images the captions name is among the 1 documents"):
            match_captions([], ["hen.jpg"])
        with pytest.raises(CaptionsError, match="hen.jpg'. is among the 0 documents."):
            match_captions([HEN], [])


@pytest.mark.flickr8k
@pytest.mark.skipif(not FLICKR8K.is_file(), reason=f"Flickr8k captions are not at {FLICKR8K}")
class TestFlickr8k:
    @pytest.mark.parametrize(
        ("split", "captions", "images"),
        [(None, 34_980, 6_996), ("train", 29_980, 5_996), ("test", 5_000, 1_000)],
    )
    def test_counts(self, split, captions, images):
        found = read_captions(FLICKR8K, split=split)
        assert (found.layout, len(found.captions), found.empty) == ("table", captions, 0)
        per_image = Counter(caption.image for caption in found.captions)
        assert len(per_image) == images
        assert set(per_image.values()) == {5}

    def test_matches_its_own_names_in_a_folder(self):
        captions = read_captions(FLICKR8K, split="test").captions
        ids = [f"photos/{name}" for name in dict.fromkeys(caption.image for caption in captions)]
        matched = match_captions(captions, ids)
        assert matched.documents.tolist() == np.repeat(np.arange(1_000), 5).tolist()
        assert (matched.missing, matched.ambiguous, matched.uncaptioned) == ([], [], [])
