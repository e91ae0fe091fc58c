import pytest

from retrieval.corpus.captions import Caption
from retrieval.evaluate.failures import RESULTS_SHOWN, RIGHT_ONES_SHOWN, worst_failures

IMAGES = {"a.png": 0, "b.png": 40, "c.png": 80, "x.png": 12}
CAPTIONS = {
    Caption("a.png", "an ant"): 1,  # rank 1
    Caption("b.png", "a bee"): 10,  # x, a, then b: rank 3
    Caption("a.png", "an anteater"): 75,  # c, b, x, a: rank 4
    Caption("c.png", "a cow"): 42,  # b, then x 30 away, then c 38 away: rank 3
}
# Image to text: a finds "an ant", b finds "a cow" and then "a bee" (30 away), c finds "an anteater"
# and then "a cow" (38 away).
PATHS = {name: f"/photos/{name}" for name in IMAGES}


@pytest.fixture
def failures(compared):
    def find(most=10, *, captions=CAPTIONS, paths=PATHS):
        return worst_failures(compared(IMAGES, captions), paths, most)

    return find


def test_worst_first_and_in_order_where_equal(failures):
    found = failures()
    assert [(one.direction, one.text or one.id, one.rank) for one in found] == [
        ("text_to_image", "an anteater", 4), ("text_to_image", "a bee", 3), ("text_to_image", "a cow", 3),
        ("image_to_text", "b.png", 2), ("image_to_text", "c.png", 2),
    ]


def test_the_most(failures):
    assert [one.text or one.id for one in failures(1)] == ["an anteater", "b.png"]


def test_what_a_text_found_and_should_have_found(failures):
    failure = failures()[0]
    assert (failure.id, failure.path, failure.text) == ("a.png", "/photos/a.png", "an anteater")
    assert [(one.rank, one.id, one.path, one.text, one.right) for one in failure.came] == [
        (1, "c.png", "/photos/c.png", "", False), (2, "b.png", "/photos/b.png", "", False),
        (3, "x.png", "/photos/x.png", "", False), (4, "a.png", "/photos/a.png", "", True),
    ]
    cosines = [0.996195, 0.819152, 0.453990, 0.258819]  # of 5, 35, 63 and 75 degrees
    assert [one.score for one in failure.came] == pytest.approx(cosines, abs=1e-5)
    assert [(one.rank, one.id, one.right) for one in failure.should] == [(4, "a.png", True)]
    assert failure.should[0].score == pytest.approx(0.258819, abs=1e-5)


def test_what_an_image_found_and_should_have_found(failures):
    failure = failures()[-1]
    assert (failure.id, failure.path, failure.text) == ("c.png", "/photos/c.png", "")
    assert [(one.text, one.id, one.path, one.right) for one in failure.came] == [
        ("an anteater", "a.png", "/photos/a.png", False), ("a cow", "c.png", "/photos/c.png", True),
        ("a bee", "b.png", "/photos/b.png", False), ("an ant", "a.png", "/photos/a.png", False),
    ]
    assert [(one.rank, one.text) for one in failure.should] == [(2, "a cow")]


def test_images_without_a_file_that_is_known(failures):
    assert failures(paths={})[0].path == ""


def test_right_answers_best_placed_first_and_not_all_of_many(failures):
    others = {Caption("b.png", f"bystander {degree}"): degree for degree in range(81, 88)}
    found = failures(captions={**CAPTIONS, **others})[-1]
    # b, at 40: "a cow", "a bee", "an anteater", "an ant", then its bystanders from 81 on.
    assert (found.id, found.rank) == ("b.png", 2)
    assert [one.text for one in found.should] == ["a bee", *(f"bystander {degree}" for degree in range(81, 85))]
    assert [one.rank for one in found.should] == [2, 5, 6, 7, 8]
    assert len(found.should) == RIGHT_ONES_SHOWN and len(found.came) == RESULTS_SHOWN


def test_languages_apart(failures):
    captions = {
        Caption("a.png", "an ant", language="en"): 1, Caption("b.png", "蜜蜂", language="zh"): 3,
        Caption("a.png", "蚂蚁", language="zh"): 30, Caption("b.png", "a bee", language="en"): 39,
    }
    found = failures(captions=captions)
    # In English nothing fails; in Chinese "蜜蜂" (b's) finds a first and b last but one, "蚂蚁" (a's) finds
    # b, x, a. Image b sees "蚂蚁" before its own, image a "蜜蜂".
    assert [(one.direction, one.language, one.text or one.id, one.rank) for one in found] == [
        ("text_to_image", "zh", "蜜蜂", 3), ("text_to_image", "zh", "蚂蚁", 3),
        ("image_to_text", "zh", "a.png", 2), ("image_to_text", "zh", "b.png", 2),
    ]
    assert [one.text for one in found[-1].came] == ["蚂蚁", "蜜蜂"]


def test_images_without_captions_are_not_asked(failures):
    assert "x.png" not in {one.id for one in failures()}


def test_queries_without_a_right_answer_do_not_fail(compared, tmp_path):
    judged = tmp_path / "qrels.txt"
    judged.write_text("b.png#0 0 c.png 1\n")
    found = worst_failures(compared(IMAGES, CAPTIONS, judgements=judged), PATHS, 10)
    # "a bee" at 10 finds c last of four; c finds "a bee" third: "an anteater", "a cow", "a bee".
    assert [(one.direction, one.text or one.id, one.rank) for one in found] == [
        ("text_to_image", "a bee", 4), ("image_to_text", "c.png", 3),
    ]
    assert [one.id for one in found[0].should] == ["c.png"]
