import json

import numpy as np
import pytest

from retrieval.corpus.captions import Caption
from retrieval.corpus.qrels import match_judgements, read_judgements
from retrieval.errors import CaptionsError


@pytest.fixture
def refusal(write):
    def refusal(content, name="judged.txt"):
        with pytest.raises(CaptionsError) as caught:
            read_judgements(write(content, name))
        return str(caught.value)

    return refusal


class TestReadJudgements:
    def test_trec(self, write):
        found = read_judgements(write("q1 0 hen.jpg 2\nq1 0 owl.jpg -1\n\nq2\tQ0\then.jpg\t0.5\n"))
        assert found.entries == [("q1", "hen.jpg", 2.0), ("q1", "owl.jpg", 0.0), ("q2", "hen.jpg", 0.5)]
        assert found.layout == "trec"

    @pytest.mark.parametrize("query", "query query_id qid caption caption_id text".split())
    @pytest.mark.parametrize("document", "document doc docid document_id image image_name filename".split())
    def test_columns_without_grades(self, write, query, document):
        found = read_judgements(write(f"note,{document},{query}\nx,hen.jpg,q1\nx,owl.jpg,q1\n"))
        assert found.entries == [("q1", "hen.jpg", 1.0), ("q1", "owl.jpg", 1.0)]
        assert found.layout == "table"

    @pytest.mark.parametrize("grade", "relevance grade score rel label agg_score Relevance".split())
    def test_columns_of_grades(self, write, grade):
        found = read_judgements(write(f"query\tdocument\t{grade}\nq1\then.jpg\t3\nq1\towl.jpg\t-2\n"))
        assert found.entries == [("q1", "hen.jpg", 3.0), ("q1", "owl.jpg", 0.0)]

    def test_captions_as_queries(self, write):
        found = read_judgements(write('caption,image\n"a hen, here",hen.jpg\n'))
        assert found.entries == [("a hen, here", "hen.jpg", 1.0)]

    @pytest.mark.parametrize(
        ("content", "entries"),
        [
            ({"7": [391895, 9], "8": ["owl.jpg"]}, [("7", "391895", 1.0), ("7", "9", 1.0), ("8", "owl.jpg", 1.0)]),
            ({"7": {"391895": 2, "9": -1.5}, "8": {}}, [("7", "391895", 2.0), ("7", "9", 0.0)]),
        ],
    )
    def test_json(self, write, content, entries):
        path = write(json.dumps(content), "judged.json")
        found = read_judgements(path)
        assert (found.entries, found.layout, found.source) == (entries, "json", path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("q1 0 a.jpg 1\nq1 0 b.jpg\n", "line 2 is not 'query 0 document grade'"),
            ("q1 0 a.jpg 1\nq1 0 b.jpg x\n", "line 2 has the grade 'x', which is not a finite number"),
            ("q1 0 a.jpg 1\nq1 0 b.jpg nan\n", "line 2 has the grade 'nan'"),
            ("query,image,grade\nq1,a.jpg,1\nq1,b.jpg,inf\n", "line 3 has the grade 'inf'"),
            ("query,image,grade\nq1,a.jpg,1e30\n", "line 2 has the grade '1e30'"),
            ("query,image,grade\nq1,a.jpg,1\nq1,b.jpg\n", "line 3 has 2 fields, the header 3"),
            ("query,image\nq1,a.jpg\nq1,\n", "line 3 names no document"),
            ("query,image\nq1,a.jpg\n,b.jpg\n", "line 3 names no query"),
            ("querry,image\nq1,a.jpg\n", "has no query column; its header reads 'querry', 'image'. Rename 'querry' to"),
            ("query,documnt\nq1,a.jpg\n", "has no document column; its header reads 'query', 'documnt'. Rename"),
            ('{"q": [1], }', "is not valid JSON"),
            ('["q"]', "is a JSON list, not an object. Give {query:"),
            ('{"q": 3}', "query 'q' has neither a list of documents nor grades"),
            ('{"q": [null]}', "query 'q' judges None, which is not a name"),
            ('{"q": {"d": NaN}}', "query 'q', document 'd' has the grade nan"),
            ("query,image\n", "holds no judgements"),
            ("{}", "holds no judgements"),
            (" \n", "is empty. Give a judgements file"),
        ],
    )
    def test_what_is_refused(self, refusal, content, message):
        assert message in refusal(content)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(CaptionsError, match="There is no judgements file .*gone.txt"):
            read_judgements(tmp_path / "gone.txt")


IDS = ["val/hen.jpg", "val/owl.jpg", "val/cat.jpg"]
CAPTIONS = [
    Caption("hen.jpg", "a bird", id="101", image_key="7"),
    Caption("hen.jpg", "a hen", id="102", image_key="7"),
    Caption("owl.jpg", "an owl", id="103", image_key="8"),
    Caption("owl.jpg", "a bird", id="104", image_key="8"),
]
OWNERS = np.array([0, 0, 1, 1])


@pytest.fixture
def matched(write):
    """The triples (caption, image, grade) that a file stands for, and its unmatched names."""

    def matched(content, captions=CAPTIONS, ids=IDS):
        content = content if isinstance(content, str) else json.dumps(content)
        found = match_judgements(read_judgements(write(content)), captions, OWNERS[: len(captions)], ids)
        assert (found.captions.dtype, found.images.dtype, found.grades.dtype) == (np.int64, np.int64, np.float32)
        triples = zip(found.captions.tolist(), found.images.tolist(), found.grades.tolist())
        return list(triples), found.unmatched

    return matched


class TestMatchJudgements:
    def test_captions_by_id_and_images_by_number(self, matched):
        assert matched({"103": [7, 8], "101": [8]}) == ([(2, 0, 1), (2, 1, 1), (0, 1, 1)], [])

    def test_images_may_be_the_queries(self, matched):
        assert matched({"7": {"103": 2, "101": 1}, "8": {"102": 0}}) == ([(2, 0, 2), (0, 0, 1), (1, 1, 0)], [])

    @pytest.mark.parametrize("image", ["val/cat.jpg", "cat.jpg", "images/val/cat.jpg", "cat"])
    def test_images_by_name(self, matched, image):
        assert matched(f"102 0 {image} 3\n") == ([(1, 2, 3)], [])

    def test_a_number_is_the_file_s_own_before_it_is_a_file_name(self, matched):
        assert matched("102 0 7 1\n", ids=["hen.jpg", "7.jpg", "cat.jpg"]) == ([(1, 0, 1)], [])
        assert matched("102 0 9 1\n", ids=["hen.jpg", "owl.jpg", "9.jpg"]) == ([(1, 2, 1)], [])

    def test_captions_by_text_all_that_read_so(self, matched):
        assert matched("caption,image,grade\na bird,cat.jpg,2\nan owl,cat.jpg,1\n") == (
            [(0, 2, 2), (3, 2, 2), (2, 2, 1)], [],
        )

    def test_captions_by_their_place(self, matched):
        content = "hen.jpg#1 0 cat.jpg 1\nval/owl.jpg#0 0 hen.jpg 2\nowl.jpg#2 0 cat.jpg 1\n"
        assert matched(content) == ([(1, 2, 1), (2, 0, 2)], ["owl.jpg#2"])

    def test_an_id_goes_before_a_place(self, matched):
        captions = [Caption("hen.jpg", "second", id="hen.jpg#1"), Caption("hen.jpg", "third", id="hen.jpg#2")]
        assert matched("hen.jpg#1 0 owl.jpg 1\n", captions) == ([(0, 1, 1)], [])

    def test_of_two_grades_the_highest(self, matched):
        assert matched("102 0 7 1\n102 0 hen.jpg 3\n102 0 7 2\n") == ([(1, 0, 3)], [])

    def test_names_that_stand_for_nothing(self, matched):
        content = "999 0 7 1\n102 0 dog.jpg 1\n102 0 owl.jpg 1\n999 0 dog.jpg 1\n998 0 8 1\n"
        assert matched(content) == ([(1, 1, 1)], ["999", "dog.jpg", "998"])

    def test_numbers_on_both_sides_go_the_way_that_finds_more(self, matched):
        captions = [
            Caption("hen.jpg", "a hen", id="1", image_key="1"),
            Caption("hen.jpg", "hens", id="2", image_key="1"),
            Caption("owl.jpg", "an owl", id="3", image_key="4"),
        ]
        assert matched("1 0 1 1\n4 0 3 2\n", captions) == ([(0, 0, 1), (2, 1, 2)], [])
        assert matched("1 0 1 1\n3 0 4 2\n", captions) == ([(0, 0, 1), (2, 1, 2)], [])

    def test_nothing_fits(self, matched):
        with pytest.raises(CaptionsError) as caught:
            matched("q1 0 dog.jpg 1\n")
        message = str(caught.value)
        assert "None of the 1 judgements of" in message and "(such as 'q1' and 'dog.jpg')" in message
        assert "4 captions (such as '101' of 'hen.jpg') with one of the 3 images (such as 'val/hen.jpg')" in message
