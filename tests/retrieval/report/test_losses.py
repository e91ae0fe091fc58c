from xml.etree import ElementTree

import pytest

from retrieval.report.losses import losses


@pytest.fixture
def tree(full):
    return ElementTree.fromstring(f"<main>{''.join(losses(full.indexes))}</main>")


def row_texts(row):
    return [cell.find("b").text if cell.find("b") is not None else cell.text for cell in row.iter("td")]


def test_every_index_and_setting_has_its_row(tree):
    rows = [row for row in tree.iter("tr") if row.find("td") is not None]
    names = [(row.find("th/span").text, getattr(row.find("th/small"), "text", "")) for row in rows]
    assert names[:4] == [("Flat", ""), ("IVF2,Flat", "nprobe=1"), ("IVF2,Flat", "nprobe=2"), ("SQ8", "")]
    assert names[4:] == names[:4]  # the other model
    assert row_texts(rows[1]) == [
        "90.0", "89.0", "70.0", "1.0", "19.0", "70.0", "0.04", "0.08", "0.12", "25,000", "65.5", "1.5"]
    groups = [row.find("th/span").text for row in tree.iter("tr") if row.get("class") == "group"]
    assert groups == [f"{name} <model>: 9 vectors of 16 dimensions, cpu, 1 thread" for name in ("good", "bad")]
    assert [cell.find("small").text for cell in rows[0].findall("td")[:3]] == ["88.0 to 92.0", *["87.0 to 91.0"] * 2]


def test_the_best_of_a_model_is_bold(tree):
    heads = [head.text for head in tree.find(".//thead").iter("th")][1:]
    bold = [(at // 12, heads[at % 12].partition(",")[0])
            for at, cell in enumerate(tree.find(".//tbody").iter("td")) if cell.find("b") is not None]
    assert bold == [
        (0, "found"), (0, "lost in search"), (0, "ann recall@3"), (1, "p50"), (1, "p95"), (1, "p99"),
        (1, "queries/s"), (3, "bytes per vector"),
    ]


def test_the_bar_of_an_index(tree):
    bar = tree.findall(".//tbody/tr/th/svg")[1]
    assert [(one.get("class"), float(one.get("width"))) for one in bar] == [
        ("kept", 77.78), ("search-loss", 21.11), ("code-loss", 1.11)]


def test_time_is_drawn_of_every_setting_and_memory_of_the_best(tree):
    time, memory = [
        [point.find("title").text for point in chart.iter("g") if "point" in point.get("class", "").split()]
        for chart in tree.findall(".//figure/svg")
    ]
    assert time == [
        "Flat: 4, 89", "IVF2,Flat nprobe=1: 0.04, 70", "IVF2,Flat nprobe=2: 0.4, 88", "SQ8: 2, 80",
        "Flat: 4, 69", "IVF2,Flat nprobe=1: 0.04, 50", "IVF2,Flat nprobe=2: 0.4, 68", "SQ8: 2, 60",
    ]
    assert memory == [
        "Flat: 64, 89", "IVF2,Flat nprobe=2: 65.5, 88", "SQ8: 16, 80",
        "Flat: 64, 69", "IVF2,Flat nprobe=2: 65.5, 68", "SQ8: 16, 60",
    ]


def test_the_fronts(tree):
    fronts = [
        [point.find("title").text.partition(":")[0] for point in chart.iter("g") if "optimal" in point.get("class", "")]
        for chart in tree.findall(".//figure/svg")
    ]
    assert fronts == [["Flat", "IVF2,Flat nprobe=1", "IVF2,Flat nprobe=2"] * 2, ["Flat", "SQ8"] * 2]
