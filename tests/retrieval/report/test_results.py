from dataclasses import replace

import pytest

from retrieval.evaluate.compare import Difference
from retrieval.bootstrap import Estimate


def section(tree, anchor):
    return next((one for one in tree.iter("section") if one.get("id") == anchor), None)


def texts(cells):
    return ["".join(cell.itertext()) for cell in cells]


def rows(table):
    """Group heading -> row name -> cells, each cell without its interval and marks."""
    found = {}
    for body in table.iter("tbody"):
        heading = None
        for row in body.iter("tr"):
            if row.get("class") == "group":
                [heading] = texts(row)
                continue
            name = row.find("th").text
            found.setdefault(heading, {})[name] = [
                cell.find("b").text if cell.find("b") is not None else cell.text for cell in row.iter("td")]
    return found


def heads(table):
    return texts(table.find("thead").iter("th"))


@pytest.fixture
def page(body, full, tmp_path):
    return body(tmp_path / "report.html", full)


def test_a_calibrated_search_has_a_row_beside_that_of_scores_alone(body, one_model, tmp_path):
    [evaluation] = one_model.evaluations
    better = replace(evaluation.text_to_image, estimates={
        name: Estimate(0.625, 0.5, 0.75) for name in evaluation.text_to_image.estimates})
    report = replace(one_model, evaluations=[replace(evaluation, calibrated=[better])])
    table = next(section(body(tmp_path / "report.html", report), "results").iter("table"))
    by_text, by_image = rows(table).values()
    assert list(by_text) == ["only", "only, calibrated"] and list(by_image) == ["only"]
    assert by_text["only, calibrated"][:2] == ["62.5", "62.5"]


def test_every_model_direction_and_language_has_its_row(page, full):
    table = next(section(page, "results").iter("table"))
    assert heads(table) == ["Model", "R@1", "R@3", "MRR", "mAP", "nDCG@3", "median rank", "mean rank"]
    found = rows(table)
    assert list(found) == [
        "Text to image, en: 9 captions, each against all of 9 images",
        "Image to text, en: 9 images, each against all of 9 captions",
        "Text to image, de: 9 captions, each against all of 9 images",
        "Image to text, de: 9 images, each against all of 9 captions",
    ]
    for number, group in enumerate(found.values()):
        assert list(group) == ["good <model>", "bad <model>"]
        for evaluation, cells in zip(full.evaluations, group.values()):
            estimates = {name: one.value for name, one in evaluation.directions[number].estimates.items()}
            assert cells == [
                f"{100 * estimates['R@1']:.1f}", f"{100 * estimates['R@3']:.1f}", f"{estimates['MRR']:.3f}",
                f"{estimates['mAP']:.3f}", f"{estimates['nDCG@3']:.3f}", f"{estimates['median_rank']:g}",
                f"{estimates['mean_rank']:.1f}",
            ]


def test_intervals_and_the_best_in_bold(page, full):
    table = next(section(page, "results").iter("table"))
    good, bad = [row for row in table.iter("tr") if row.find("td") is not None][:2]
    estimate = full.evaluations[1].directions[0].estimates["R@1"]
    assert bad.find("td/small").text == f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"
    assert len(good.findall("td/b")) == 7 and bad.findall("td/b") == []  # better in all, ranks included


def test_full_metrics_are_folded_away(page):
    folded = next(one for one in page.iter("details") if one.find("summary").text.startswith("Recall, precision"))
    assert heads(folded.find("div/table"))[1:] == [
        f"{name}@{k}" for name in ("recall", "precision", "F1", "nDCG") for k in (1, 3)]


def test_r_sums_by_language(page, full):
    table = list(section(page, "results").iter("table"))[1]
    assert heads(table) == ["Model", "en", "de"]
    assert rows(table)[None] == {
        one.model: [f"{sum.value:.1f}" for sum in one.r_sums.values()] for one in full.evaluations}
    assert table.find("caption/span").text.endswith("in percent, at most 400")


def test_languages_have_bars(page, full):
    charts = section(page, "results").findall(".//figure/svg")
    assert [chart.find("title").text for chart in charts] == [
        "Text to image: R@3 by language", "Image to text: R@3 by language"]
    bars = [one.find("title").text for one in charts[1].findall("g") if one.get("class").startswith("series")]
    assert bars == [
        f"{language} {one.model}: {100 * one.direction('image_to_text', language).estimates['R@3'].value:.1f} %"
        for language in ("en", "de") for one in full.evaluations]


def difference(metric, value, low, high):
    return Difference("bad <model>", "good <model>", "text_to_image", "en", metric, Estimate(value, low, high))


def test_marks_say_which_way_a_clear_difference_goes(body, full, tmp_path):
    report = replace(full, differences=[
        difference("R@1", 0.1, 0.05, 0.15), difference("R@3", -0.1, -0.15, -0.05), difference("MRR", 0.1, -0.1, 0.3),
        difference("mAP", 0.0, 0.0, 0.0), difference("nDCG@3", 0.2, 0.1, 0.3),
        difference("mean_rank", 2.0, 1.0, 3.0),  # a higher rank is worse
    ])
    tree = body(tmp_path / "report.html", report)
    reference, other = [
        [(one.text, one.get("aria-label")) for one in row.findall("td/span")]
        for row in list(next(section(tree, "results").iter("table")).iter("tr"))[2:4]
    ]
    up, down = ("▲", "clearly better than good <model>"), ("▼", "clearly worse than good <model>")
    assert reference == [] and other == [up, down, up, down]
    [table] = section(tree, "differences").iter("table")
    assert rows(table) == {"Text to image, en: 9 captions, each against all of 9 images": {
        "bad <model>": ["+10.0", "−10.0", "+0.100", "0.000", "+0.200", "+2.0"]}}
    assert table.find("caption/span").text == "Difference to good <model>"
    assert [one.text for one in table.iter("small")][:2] == ["+5.0 to +15.0", "−15.0 to −5.0"]


def test_published_numbers(page):
    published = section(page, "published")
    [table] = published.iter("table")
    assert rows(table) == {"good <model> on photos": {
        "Text to image, R@1": ["91.2", "90.0", "−1.2"], "Image to text, R@1": ["50.0", "75.0", "+25.0"]}}
    assert [one.text for one in table.findall(".//td/span")] == ["matches", "differs"]
    assert published.find("p").text == "Source: table 3 of <the paper>"


def test_one_model_alone_is_compared_with_nothing(body, one_model, tmp_path):
    tree = body(tmp_path / "report.html", one_model)
    assert [one.get("id") for one in tree.iter("section")] == ["results"]
    assert list(tree.iter("b")) == [] and not [one for one in tree.iter("span") if "mark" in one.get("class", "")]
    assert list(rows(next(tree.iter("table")))) == [
        "Text to image: 9 captions, each against all of 9 images",
        "Image to text: 9 images, each against all of 9 captions"]
    assert tree.findall(".//figure") == []
