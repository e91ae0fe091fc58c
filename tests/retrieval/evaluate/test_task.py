from pathlib import Path

import pytest

from retrieval.corpus.captions import Caption, CaptionSet
from retrieval.errors import CaptionsError
from retrieval.evaluate.task import Problems, make_task

IDS = ["a.png", "b.png", "c.png"]
CAPTIONS = [
    Caption("b.png", "a bee", "b0"), Caption("a.png", "an ant", "a0"), Caption("b.png", "a bumblebee", "b1"),
    Caption("gone.png", "a ghost", "g0"),
]
# What is left of them has places: 0 a bee, 1 an ant, 2 a bumblebee.


def read(*captions, empty=0, malformed=()):
    return CaptionSet(list(captions), "table", empty, Path("captions.tsv"), list(malformed))


def pairs(relevance):
    """{query: {row: grade}} of queries that have any."""
    found = {}
    for query, row, grade in zip(relevance.queries.tolist(), relevance.rows.tolist(), relevance.grades.tolist()):
        found.setdefault(query, {})[row] = grade
    return found


@pytest.fixture
def qrels(tmp_path):
    def write(*lines):
        path = tmp_path / "judged.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


class TestCaptionsAlone:
    def test_a_caption_is_right_for_its_own_image(self):
        task = make_task(read(*CAPTIONS), IDS)
        assert [caption.id for caption in task.captions] == ["b0", "a0", "b1"]
        assert task.images.tolist() == [1, 0, 1]
        assert pairs(task.text_to_image) == {0: {1: 1}, 1: {0: 1}, 2: {1: 1}}
        assert pairs(task.image_to_text) == {0: {1: 1}, 1: {0: 1, 2: 1}}
        assert (len(task.text_to_image), len(task.image_to_text)) == (3, 3)
        assert (task.ids, task.rules) == (IDS, ())

    def test_the_order_of_ids_is_kept(self):
        task = make_task(read(*CAPTIONS), IDS[::-1])
        assert (task.ids, task.images.tolist()) == (["c.png", "b.png", "a.png"], [1, 2, 1])

    def test_problems(self):
        task = make_task(read(*CAPTIONS, Caption("x/dup.png", "two"), empty=2, malformed=["line 9 is odd"]),
                         [*IDS, "one/dup.png", "two/dup.png"])
        assert task.problems.missing + task.problems.ambiguous == ["gone.png", "x/dup.png"]
        assert task.problems.uncaptioned == ["c.png", "one/dup.png", "two/dup.png"]
        assert (task.problems.empty, task.problems.malformed, task.problems.unmatched) == (2, ["line 9 is odd"], [])

    def test_problems_in_words_leave_out_what_did_not_occur(self):
        assert Problems().described() == []
        found = Problems(missing=["x", "y"], empty=3).described()
        assert [(count, names) for _, count, names in found] == [(2, ["x", "y"]), (3, [])]
        assert "not here" in found[0][0] and "empty" in found[1][0]

    def test_strict_refuses_them(self):
        with pytest.raises(CaptionsError) as caught:
            make_task(read(*CAPTIONS), IDS, strict=True)
        assert "captions.tsv" in str(caught.value) and "--strict" in str(caught.value)
        assert "gone.png" in str(caught.value) and "c.png" in str(caught.value)
        whole = make_task(read(*CAPTIONS[:3]), IDS[:2], strict=True)
        assert whole.problems.described() == []

    def test_strict_names_three_of_many(self):
        with pytest.raises(CaptionsError, match=r"5 images without a caption \(b.png, c.png, 0.png, \.\.\.\)"):
            make_task(read(CAPTIONS[1]), [*IDS, "0.png", "1.png", "2.png"], strict=True)

    def test_captions_of_other_images_are_refused(self):
        with pytest.raises(CaptionsError, match="None of the 1 images the captions name"):
            make_task(read(CAPTIONS[3]), IDS)


class TestJudgements:
    def test_they_alone_say_what_is_right(self, qrels):
        task = make_task(read(*CAPTIONS), IDS, judgements=qrels("b0 0 c.png 3", "b0 0 a.png 1", "a0 0 b.png 0"))
        assert pairs(task.text_to_image) == {0: {0: 1, 2: 3}}
        assert pairs(task.image_to_text) == {0: {0: 1}, 2: {0: 3}}
        # The caption's own image is another matter.
        assert task.images.tolist() == [1, 0, 1]
        assert len(task.rules) == 1 and "judged.txt alone" in task.rules[0]

    def test_extra_ones_stand_beside_the_own_images(self, qrels):
        task = make_task(read(*CAPTIONS), IDS, extra=qrels("a0 0 c.png 1", "b1 0 b.png 4"), rules=["one rule"])
        assert pairs(task.text_to_image) == {0: {1: 1}, 1: {0: 1, 2: 1}, 2: {1: 4}}
        assert pairs(task.image_to_text) == {0: {1: 1}, 1: {0: 1, 2: 4}, 2: {1: 1}}
        assert task.rules[0] == "one rule" and "own image and those of judged.txt" in task.rules[1]

    def test_both(self, qrels, tmp_path):
        alone = tmp_path / "alone.txt"
        alone.write_text("b0 0 a.png 2\n")
        task = make_task(read(*CAPTIONS), IDS, judgements=alone, extra=qrels("b0 0 b.png 1"))
        assert pairs(task.text_to_image) == {0: {0: 2, 1: 1}}
        assert task.rules == ("Right answers are those of alone.txt alone.", "Those of judged.txt are right too.")

    def test_names_that_are_not_here(self, qrels):
        task = make_task(read(*CAPTIONS), IDS, extra=qrels("a0 0 c.png 1", "zz 0 c.png 1", "a0 0 zz.png 1"))
        assert sorted(task.problems.unmatched) == ["zz", "zz.png"]

    def test_judgements_that_call_nothing_right_are_refused(self, qrels):
        with pytest.raises(CaptionsError, match=r"judged\.txt calls nothing right"):
            make_task(read(*CAPTIONS), IDS, judgements=qrels("a0 0 c.png 0"))


class TestLanguages:
    MIXED = [
        Caption("a.png", "an ant", language="en"), Caption("b.png", "蜜蜂", language="zh"),
        Caption("b.png", "a bee", language="en"), Caption("a.png", "蚂蚁", language="zh"),
    ]

    def test_in_order_of_appearance(self):
        assert make_task(read(*self.MIXED[1:]), IDS).languages == ["zh", "en"]
        assert make_task(read(*CAPTIONS), IDS).languages == [""]

    def test_one_of_them_among_all_images(self):
        part, chosen = make_task(read(*self.MIXED), IDS).in_language("zh")
        assert chosen.tolist() == [1, 3]
        assert [caption.text for caption in part.captions] == ["蜜蜂", "蚂蚁"]
        assert (part.ids, part.images.tolist()) == (IDS, [1, 0])
        assert pairs(part.text_to_image) == {0: {1: 1}, 1: {0: 1}}
        assert pairs(part.image_to_text) == {0: {1: 1}, 1: {0: 1}}
        assert len(part.image_to_text) == 3

    def test_grades_stay_with_their_captions(self, qrels):
        task = make_task(read(*self.MIXED), IDS, judgements=qrels("a.png#1 0 c.png 3", "a.png#0 0 a.png 2"))
        part, _ = task.in_language("zh")
        assert pairs(part.text_to_image) == {1: {2: 3}}
        assert pairs(part.image_to_text) == {2: {1: 3}}
        assert (part.problems, part.rules) == (task.problems, task.rules)

    def test_a_language_that_is_not_there_is_empty(self):
        part, chosen = make_task(read(*CAPTIONS), IDS).in_language("fr")
        assert (part.captions, chosen.tolist(), len(part.text_to_image)) == ([], [], 0)


def test_a_language_that_nobody_judged_is_left_out(compared, qrels):
    captions = dict(zip(TestLanguages.MIXED, (1, 42, 41, 2)))
    found = compared({"a.png": 0, "b.png": 40}, captions, judgements=qrels("a.png#1 0 a.png 1"))
    assert [(one.direction, one.language, one.queries) for one in found.directions] == [
        ("text_to_image", "zh", 1), ("image_to_text", "zh", 1),
    ]
    assert list(found.r_sums) == ["zh"]
