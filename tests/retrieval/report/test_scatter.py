import re
from math import log10, nan
from xml.etree import ElementTree

import pytest

from retrieval.report.scatter import Point, scatter_svg

HOSTILE = """<script>"a" & 'b'</script>"""
TEXT = {"title": "Recall against time", "description": "What it shows", "cost_label": "ms", "quality_label": "%"}


def chart(series, **options):
    return ElementTree.fromstring(scatter_svg(series, **{**TEXT, **options}))


def groups(tree, name):
    return [one for one in tree.iter("g") if name in one.get("class", "").split()]


def place(point):
    return tuple(map(float, re.fullmatch(r"translate\((\S+) (\S+)\)", point.find("path").get("transform")).groups()))


def ticks(tree, axis):
    """Value -> pixel of the ticks along an axis."""
    return {
        float(text.text.replace(",", "")): float(text.get(axis)) - (4 if axis == "y" else 0)
        for text in tree.iter("text") if text.get("class") == f"tick-{axis}"
    }


def test_points_stand_where_the_axes_say():
    points = [Point(1, 40, "a"), Point(10, 60, "b"), Point(1000, 80, "c")]
    tree = chart({"model": points})
    across, up = ticks(tree, "x"), ticks(tree, "y")
    assert list(across) == [1, 10, 100, 1000] and {40, 60, 80} <= set(up)
    steps = [across[high] - across[low] for low, high in ((1, 10), (10, 100), (100, 1000))]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.03)  # a logarithmic axis
    for point, drawn in zip(points, groups(tree, "point")):
        assert place(drawn) == pytest.approx((across[point.cost], up[point.quality]), abs=0.1)
    assert up[80] < up[60] < up[40]  # better is higher


def test_the_front_of_each_series_is_marked_and_joined():
    tree = chart({
        "one": [Point(4, 90, "d"), Point(1, 70, "a"), Point(2, 60, "b"), Point(3, 80, "c")],
        "two": [Point(5, 50, "e"), Point(6, 40, "f")],
    })
    first, second = groups(tree, "series-0")[0], groups(tree, "series-1")[0]
    optimal = [one.find("title").text.partition(":")[0] for one in groups(tree, "optimal")]
    assert optimal == ["d", "a", "c", "e"]
    corners = [tuple(map(float, pair.split(","))) for pair in first.find("polyline").get("points").split()]
    by_name = {one.find("title").text[0]: place(one) for one in groups(tree, "point")}
    assert corners == [by_name["a"], by_name["c"], by_name["d"]]
    assert second.find("polyline") is None  # one point makes no line
    hollow = [one.find("title").text[0] for one in groups(tree, "point") if one.find("path").get("class") == "hollow"]
    assert hollow == ["b", "f"]


def test_labels_and_legend_name_everything():
    tree = chart({"one": [Point(1, 1, "a"), Point(100, 2, "b")], "two": [Point(10, 1.2, "c")]})
    [labels], [legend] = groups(tree, "labels"), groups(tree, "legend")
    assert {text.text for text in labels.iter("text")} == {"a", "b", "c"}
    assert [text.text for text in legend.iter("text")] == ["one", "two"]
    assert [one.find("path").get("d") for one in legend] == [
        groups(tree, name)[0].find("g/path").get("d") for name in ("series-0", "series-1")]
    c, label = place(groups(tree, "point")[2]), next(text for text in labels.iter("text") if text.text == "c")
    assert float(label.get("x")) == pytest.approx(c[0] + 8, abs=0.1) and label.get("text-anchor") == "start"


def test_a_long_legend_takes_more_lines_of_a_higher_chart():
    few, many = (chart({f"a model with a long name, {n}": [Point(1, 1, "")] for n in range(count)}) for count in (1, 9))
    assert len({text.get("y") for text in groups(many, "legend")[0].iter("text")}) > 3
    height = {tree: float(tree.get("viewBox").split()[3]) for tree in (few, many)}
    assert height[many] > height[few]
    assert max(float(text.get("y")) for text in groups(many, "legend")[0].iter("text")) < height[many]


def test_names_for_those_who_cannot_see_it():
    tree = chart({"one": [Point(1, 1, "a")]})
    assert (tree.get("role"), tree[0].tag, tree[0].text, tree[1].tag, tree[1].text) == (
        "img", "title", "Recall against time", "desc", "What it shows")


def test_hostile_names_stay_text():
    tree = chart({HOSTILE: [Point(1, 1, HOSTILE)]}, title=HOSTILE, description=HOSTILE, cost_label=HOSTILE)
    assert tree[0].text == HOSTILE and not list(tree.iter("script"))
    assert sum(text.text == HOSTILE for text in tree.iter("text")) == 3  # axis, label, legend


def test_unknown_points_are_left_out_and_nothing_is_refused():
    tree = chart({"one": [Point(1, nan, "a"), Point(2, 5, "b")], "two": []})
    assert [one.find("title").text for one in groups(tree, "point")] == ["b: 2, 5"]
    with pytest.raises(ValueError, match="no points"):
        chart({"one": [Point(nan, 1, "a")]})
    with pytest.raises(ValueError, match="logarithmic"):
        chart({"one": [Point(0, 1, "a")]})


def test_spread_of_many_settings_stays_inside():
    points = [Point(10 ** (n / 7), log10(n + 1), f"IVF{n},Flat nprobe={n}") for n in range(40)]
    tree = chart({"one": points})
    width, height = map(float, tree.get("viewBox").split()[2:])
    assert all(0 < x < width and 0 < y < height for x, y in map(place, groups(tree, "point")))
    assert len(groups(tree, "optimal")) == 40
