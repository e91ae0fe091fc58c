from math import nan
from xml.etree import ElementTree

import pytest

from retrieval.bootstrap import Estimate
from retrieval.report.bars import bars_svg, loss_bar


def bars(groups):
    return ElementTree.fromstring(bars_svg(groups, title="T", description="D"))


def scale(tree):
    """Pixels of 0 and of 100 percent."""
    marks = {text.text: float(text.get("x")) for text in tree.iter("text") if text.text.endswith(" %")}
    return marks["0 %"], marks["100 %"]


def test_bars_are_as_long_as_their_numbers():
    tree = bars({
        "en": {"good": Estimate(0.8, 0.7, 0.9), "bad": Estimate(0.25, 0.2, 0.3)},
        "<zh>": {"good": Estimate(0.5, 0.5, 0.5), "bad": Estimate(nan, nan, nan)},
    })
    zero, hundred = scale(tree)
    rects = list(tree.iter("rect"))
    assert [float(one.get("x")) for one in rects] == pytest.approx([zero] * 3, abs=0.01)
    assert [float(one.get("width")) for one in rects] == pytest.approx(
        [value * (hundred - zero) for value in (0.8, 0.25, 0.5)], abs=0.02)
    interval = next(one for one in tree.iter("line") if one.get("class") == "interval")
    assert [float(interval.get(end)) for end in ("x1", "x2")] == pytest.approx(
        [zero + value * (hundred - zero) for value in (0.7, 0.9)], abs=0.02)
    drawn = [one for one in tree if one.get("class", "").startswith("series")]
    assert [one.get("class") for one in drawn] == ["series-0", "series-1", "series-0"]
    assert [one.find("text").text for one in drawn] == ["80.0", "25.0", "50.0"]
    assert [text.text for text in tree.findall("text")] == ["en", "<zh>"]
    tops = [float(one.get("y")) for one in rects]
    assert tops == sorted(set(tops)) and tops[-1] < float(tree.get("viewBox").split()[3])


@pytest.mark.parametrize(("exact", "codes", "found", "parts"), [
    (0.8, 0.6, 0.4, {"kept": (0, 50), "search-loss": (50, 25), "code-loss": (75, 25)}),
    (0.8, 0.8, 0.8, {"kept": (0, 100)}),
    (0.8, 0.8, 0.4, {"kept": (0, 50), "search-loss": (50, 50)}),
    (0.4, 0.3, 0.5, {"kept": (0, 100)}),  # chance found more than exact search
    (0.5, 0.0, 0.0, {"code-loss": (0, 100)}),
])
def test_what_an_index_keeps_and_loses(exact, codes, found, parts):
    drawn = {one.get("class"): (float(one.get("x")), float(one.get("width")))
             for one in ElementTree.fromstring(loss_bar(exact, codes, found))}
    assert drawn == {name: pytest.approx(part) for name, part in parts.items()}


def test_nothing_to_lose():
    assert loss_bar(0.0, 0.0, 0.0) == "" == loss_bar(nan, nan, nan)
