from xml.etree import ElementTree

import pytest

from retrieval.evaluate.failures import Answer, Failure
from retrieval.report.failures import failure_sections
from retrieval.report.pictures import Pictures

HOSTILE = "<img src=x onerror=alert(1)> & \"quotes\""


def image(rank, id, right=False):
    return Answer(rank, 0.5 - rank / 100, right, id, "", "")


def caption(rank, text, right=False):
    return Answer(rank, -0.1, right, "flower.jpg", "", text)


BY_TEXT = Failure(
    "text_to_image", "de", 1234, "flower.jpg", "", HOSTILE,
    came=[image(1, "china.jpg"), image(2, "gone.jpg"), image(3, "magenta.png", True)],
    should=[image(3, "magenta.png", True), image(1234, "flower.jpg", True)],
)
BY_IMAGE = Failure(
    "image_to_text", "", 2, "magenta.png", "", "", came=[caption(1, "wrong"), caption(2, HOSTILE, True)],
    should=[caption(2, HOSTILE, True)],
)


@pytest.fixture
def show(images):
    def shown(failures):
        sections = failure_sections(failures, Pictures(images))
        return [(anchor, heading, ElementTree.fromstring(section)) for anchor, heading, section in sections]

    return shown


def placed(item):
    return " ".join("".join(item.find("p[@class='place']").itertext()).split())


def test_a_caption_that_failed(show):
    [(anchor, heading, section)] = show({"a <model>": [BY_TEXT]})
    assert (anchor, heading, section.find("h3").text) == (
        "failures-1", "a <model>: text to image, de", "a <model>: text to image, de")
    article = section.find("article")
    assert article.find("header/p").text == "First right answer at rank 1,234"
    assert article.find("header/blockquote/p").text == HOSTILE
    assert [one.text for one in article.iter("h4")] == ["What came", "What should have come"]
    came, should = article.findall("div/ol")
    assert [placed(item) for item in came] == ["1. 0.490", "2. 0.480", "3. 0.470 right"]
    assert [item.get("class") for item in came] == [None, None, "right"]
    assert [svg.get("aria-label") for svg in article.find("div/ol").iter("svg")] == ["china.jpg", "magenta.png"]
    assert came[1].find("div").text == "No picture: cannot be read: No such file or directory"
    assert [placed(item) for item in should] == ["3. 0.470", "1,234. −11.840"]
    assert [item.find("p[@class='id']").text for item in should] == ["magenta.png", "flower.jpg"]


def test_an_image_that_failed(show):
    [(_, heading, section)] = show({"m": [BY_IMAGE]})
    assert heading == "m: image to text"
    article = section.find("article")
    assert article.find("header/figure/svg").get("aria-label") == "magenta.png"
    assert article.find("header/figure/figcaption").text == "magenta.png"
    came, should = article.findall("div/ol")
    assert came.get("class") == "captions"
    assert [(item.find("p").text, placed(item)) for item in came] == [
        ("wrong", "1. −0.100"), (HOSTILE, "2. −0.100 right")]
    assert [item.find("p").text for item in should] == [HOSTILE]


def test_models_directions_and_languages_have_sections_of_their_own(show):
    shown = show({"a": [BY_TEXT, BY_IMAGE, BY_TEXT], "b": [BY_IMAGE], "c": []})
    assert [(anchor, heading, len(section.findall("article"))) for anchor, heading, section in shown] == [
        ("failures-1", "a: text to image, de", 2), ("failures-2", "a: image to text", 1),
        ("failures-3", "b: image to text", 1)]


def test_what_no_search_found_has_no_rank(show):
    lost = Failure("text_to_image", "", 0, "flower.jpg", "", "words",
                   came=[image(1, "china.jpg")], should=[image(0, "flower.jpg", True)])
    [(_, _, section)] = show({"m": [lost]})
    assert section.find("article/header/p").text == "Nothing right was found"
    assert placed(section.findall("article/div/ol/li")[1]) == "not found 0.500"
