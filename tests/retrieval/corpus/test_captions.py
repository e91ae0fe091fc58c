from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.corpus.captions import Caption, match_captions, read_captions
from retrieval.errors import CaptionsError

FLICKR8K = Path(__file__).parents[4] / "shared" / "data" / "flickr8k" / "captions.tsv"

HEN, OWL = Caption("hen.jpg", "a hen on a fence"), Caption("owl.jpg", "an owl asleep")


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
        assert read_captions(write(content)).captions == [replace(HEN, image_key="7")]

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
        assert "Name one of them caption or text or comment or title or raw." in message

    def test_no_header(self, refusal):
        assert "header reads 'a.jpg', 'a hen, a fence'" in refusal("a.jpg\ta hen, a fence\n")

    def test_too_many_fields(self, refusal):
        message = refusal("caption,image\nx,a.jpg\na hen, a fence,b.jpg\na cat, a mat,c.jpg\n")
        assert "line 3 has 3 fields, the header 2; so it is with 1 more of its 3 lines. " in message
        assert "A caption may hold no comma unless it is quoted." in message

    def test_too_few_fields(self, refusal):
        message = refusal("image| number| caption\na.jpg| 0| x\nb.jpg| 4 a hen\nc.jpg\n")
        assert "line 3 has 2 fields, the header 3; so it is with 1 more of its 3 lines. " in message
        assert "A caption may hold no pipe." in message

    def test_a_quote_never_closed(self, refusal):
        assert "line 3: unexpected end of data" in refusal('image,caption\na.jpg,x\nb.jpg,"a hen\n')

    def test_lines_without_an_image(self, refusal):
        message = refusal("image,caption\na.jpg,x\n,a hen\n,an owl\n")
        assert "line 3 names no image; so it is with 1 more of its 3 lines. Mend or remove that line." in message

    def test_languages_and_ids(self, write):
        content = (
            "image,caption,Locale,caption_id\n"
            "hen.jpg,a hen,en,c1\nhen.jpg,eine Henne,de,c2\nowl.jpg,un hibou,fr,c3\n"
        )
        found = read_captions(write(content), languages=("fr", "en"))
        assert found.captions == [
            Caption("hen.jpg", "a hen", id="c1", language="en"),
            Caption("owl.jpg", "un hibou", id="c3", language="fr"),
        ]

    def test_an_unknown_language_lists_those_present(self, refusal):
        content = "image,caption,lang\na.jpg,x,en\nb.jpg,y,de\n"
        assert "has no captions in 'fr': choose from 'de', 'en'." in refusal(content, languages=("en", "fr"))
        assert "no captions in 'fr': it names no languages" in refusal("image,caption\na.jpg,x\n", languages=("fr",))


class TestFirstPerImage:
    def test_counts_each_image_and_language(self, write):
        rows = ["hen.jpg,one,en", "owl.jpg,two,en", "hen.jpg,drei,de", "hen.jpg,four,en", "hen.jpg,five,en"]
        found = read_captions(write("\n".join(["image,caption,language", *rows])))
        kept = {most: [caption.text for caption in found.first_per_image(most).captions] for most in (1, 2, 3)}
        assert kept[1] == ["one", "two", "drei"]
        assert kept[2] == ["one", "two", "drei", "four"]
        assert kept[3] == ["one", "two", "drei", "four", "five"]

    def test_none(self, write):
        with pytest.raises(CaptionsError, match="^0 captions of each image are none. Keep at least 1.$"):
            read_captions(write("image,caption\na.jpg,x\n")).first_per_image(0)


class TestDamagedLines:
    """The well-known results.csv of Flickr30k has one line with a pipe too few."""

    @staticmethod
    def results(lines, damaged):
        rows = [f"{n}.jpg| 0| caption {n}" if n not in damaged else f"{n}.jpg| 4 caption {n}" for n in range(lines)]
        return "\n".join(["image_name| comment_number| comment", *rows])

    @pytest.mark.parametrize(("lines", "damaged"), [(2, [1]), (200, [7, 150]), (300, [7, 8, 150])])
    def test_few_are_passed_over_and_named(self, write, lines, damaged):
        found = read_captions(write(self.results(lines, damaged)))
        assert found.malformed == [f"line {n + 2} has 2 fields, the header 3" for n in damaged]
        kept = [n for n in range(lines) if n not in damaged]
        assert found.captions == [Caption(f"{n}.jpg", f"caption {n}") for n in kept]

    @pytest.mark.parametrize(("lines", "damaged"), [(3, [1, 2]), (199, [7, 150])])
    def test_many_mean_that_the_table_is_misread(self, refusal, lines, damaged):
        assert f"line {damaged[0] + 2} has 2 fields, the header 3; so it is" in refusal(self.results(lines, damaged))

    def test_nothing_else(self, refusal):
        message = refusal("image,number,caption\na.jpg,x\n")
        assert "holds no captions (0 blank; line 2 has 2 fields, the header 3)" in message

    def test_none(self, write):
        assert read_captions(write("image,caption\na.jpg,x\n")).malformed == []


class TestBareCommas:
    """Flickr30k annotations for CLIP benchmarks do not quote captions with commas."""

    def test_the_rest_of_the_line_is_the_caption(self, write):
        content = 'image,caption\na.jpg,A hen ,an owl, and a cat .\nb.jpg,A sign reads "no, thanks"\nc.jpg,x\n'
        found = read_captions(write(content))
        assert [(caption.image, caption.text) for caption in found.captions] == [
            ("a.jpg", "A hen ,an owl, and a cat ."),
            ("b.jpg", 'A sign reads "no, thanks"'),
            ("c.jpg", "x"),
        ]
        assert found.malformed == []

    def test_marks_that_csv_would_choke_on_are_text(self, write):
        lines = ["a.jpg,one, two", 'b.jpg,signs: "x", "y" and z', 'c.jpg,"The hen" is in', 'd.jpg,"a, ""b"""']
        content = "\n".join(["image,caption", *lines])
        assert [caption.text for caption in read_captions(write(content)).captions] == [
            "one, two", 'signs: "x", "y" and z', '"The hen" is in', 'a, "b"',
        ]

    def test_a_line_without_a_comma_is_malformed(self, write):
        found = read_captions(write("image,caption\na.jpg,one, two\nb.jpg\n"))
        assert found.malformed == ["line 3 has 1 field, the header 2"]

    def test_only_after_two_columns_with_the_image_first(self, write):
        found = read_captions(write("image,caption,split\na.jpg,one, two,test\nb.jpg,x,test\n"))
        assert found.captions == [Caption("b.jpg", "x")]
        assert found.malformed == ["line 2 has 4 fields, the header 3"]


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
        assert matched.captions == [captions[0], captions[2], captions[4]]
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
