from math import nan
from xml.etree import ElementTree

from retrieval.bootstrap import Estimate
from retrieval.report import numbers
from retrieval.report.markup import element
from retrieval.report.tables import Column, table


def parsed(columns, groups):
    return ElementTree.fromstring(table("A <caption>", "Name", lambda row: row[0], columns, groups))


def cells(tree):
    return ["".join(cell.itertext()) for cell in tree.iter("td")]


def bold(tree):
    return ["".join(cell.itertext()) for cell in tree.iter("b")]


def test_an_estimate_has_its_interval_in_smaller_type():
    tree = parsed([Column("R@1", lambda row: Estimate(0.5, 0.4, 0.625), numbers.percent)], [(None, [["a"]])])
    [cell] = tree.iter("td")
    assert cell.text == "50.0" and cell.find("small").text == "40.0 to 62.5"


def test_the_best_of_each_group_is_bold():
    high = Column("high", lambda row: row[1], numbers.rank, best=max)
    low = Column("low", lambda row: row[2], numbers.rank, best=min)
    free = Column("free", lambda row: row[3], numbers.rank)
    tree = parsed([high, low, free], [
        ("first", [("a", 1.0, 20.0, 5.0), ("b", 3.0, 10.0, 6.0), ("c", 2.0, 30.0, 7.0)]),
        ("second", [("d", 41.0, 50.0, 9.0), ("e", 40.0, 60.0, 9.0)]),
    ])
    assert bold(tree) == ["3", "10", "41", "50"]


def test_what_reads_alike_is_equally_good_and_nothing_is_best_of_one():
    column = Column("R@1", lambda row: row[1], numbers.percent, best=max)
    assert bold(parsed([column], [(None, [("a", 0.50001), ("b", 0.50004), ("c", 0.4)])])) == ["50.0", "50.0"]
    assert bold(parsed([column], [(None, [("a", 0.50001), ("b", 0.50004)])])) == []
    assert bold(parsed([column], [(None, [("a", 0.5)])])) == []


def test_unknown_numbers_are_a_dash_without_interval_and_never_best():
    column = Column("R@1", lambda row: row[1], numbers.percent, best=min)
    unknown = Estimate(nan, nan, nan)
    tree = parsed([column], [(None, [("a", unknown), ("b", Estimate(0.5, 0.4, 0.6)), ("c", Estimate(0.6, 0.5, 0.7))])])
    assert cells(tree) == ["–", "50.040.0 to 60.0", "60.050.0 to 70.0"] and bold(tree) == ["50.0"]


def test_structure_for_screen_readers():
    column = Column("n", lambda row: 1.0, numbers.rank, mark=lambda row: element("i", "!"))
    tree = parsed([column], [("group", [["<a>"]])])
    assert tree.attrib == {"class": "scroll", "role": "region", "aria-label": "A <caption>", "tabindex": "0"}
    assert tree.find("table/caption/span").text == "A <caption>"
    scopes = [(one.get("scope"), "".join(one.itertext())) for one in tree.iter("th")]
    assert scopes == [("col", "Name"), ("col", "n"), ("rowgroup", "group"), ("row", "<a>")]
    assert cells(tree) == ["1!"]
