from xml.etree import ElementTree

import pytest

from benchmarks import plot

SVG = "{http://www.w3.org/2000/svg}"
SERIES = {"ours <1>": [(1000, 0.6), (100, 1.0)], "peer": [(10, 0.8)]}


@pytest.fixture
def drawing():
    return ElementTree.fromstring(plot.svg("Recall & speed", "queries a second", "recall", SERIES))


def test_points_are_where_their_values_say(drawing):
    # x runs over the decades 10 to 1000 from pixel 64 to 540, y from 0.6 at 384 up to 1 at 44
    found = [(float(one.get("cx")), float(one.get("cy"))) for one in drawing.iter(f"{SVG}circle")]
    assert found == [(302.0, 44.0), (540.0, 384.0), (64.0, 214.0)]


def test_a_line_goes_through_a_series_from_left_to_right(drawing):
    lines = [one.get("points") for one in drawing.iter(f"{SVG}polyline")]
    assert lines == ["302.0,44.0 540.0,384.0", "64.0,214.0"]


def test_axes_title_and_legend_are_labelled(drawing):
    texts = [one.text for one in drawing.iter(f"{SVG}text")]
    assert texts[0] == "Recall & speed"
    assert texts[1:4] == ["10", "100", "1,000"]
    assert texts[4:9] == ["0.6", "0.7", "0.8", "0.9", "1.0"]
    assert texts[9:11] == ["queries a second", "recall"]
    assert texts[11:] == ["ours <1>", "peer"]


def test_a_series_has_one_colour_and_another_has_another(drawing):
    colours = [one.get("stroke") for one in drawing.iter(f"{SVG}polyline")]
    assert colours == ["#0072b2", "#d55e00"]
    assert [one.get("fill") for one in drawing.iter(f"{SVG}circle")] == [colours[0]] * 2 + colours[1:]


def test_a_single_point_has_axes_to_stand_in():
    drawing = ElementTree.fromstring(plot.svg("t", "x", "y", {"one": [(100, 1.0)]}))
    [point] = drawing.iter(f"{SVG}circle")
    assert (point.get("cx"), point.get("cy")) == ("64.0", "44.0")


def test_the_same_points_give_the_same_file():
    assert plot.svg("t", "x", "y", SERIES) == plot.svg("t", "x", "y", SERIES)
