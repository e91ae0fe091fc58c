from dataclasses import replace

import pytest

from retrieval.errors import ExportError
from retrieval.report.page import check_report_file, write_report


def text(element):
    return "".join(element.itertext())


def test_what_was_measured_comes_first(body, full, tmp_path):
    tree = body(tmp_path / "new" / "folder" / "report.html", full)
    header = tree.find("header")
    assert header.find("h1").text == "Retrieval benchmark: Photos & <friends>"
    assert text(header.find("p")) == (
        "9 images, 18 captions in en, de: 36 queries in both directions, answered by 2 models: "
        "good <model> (good <model>, weights of <someone>), bad <model> (bad <model>, weights of <someone>)."
    )
    assert [one.text for one in header.findall("ul/li")] == ["Ranks are exact", "Right answers are <those> of the file"]
    assert [one.text for one in header.findall("aside/ul/li")] == [
        f"Captioned images that are not here: 7 ({', '.join(f'lost & <found> {n}.jpg' for n in range(5))} and 2 more)",
        "Empty captions, left out: 2",
        "Images that could not be read: 1 (broken <1>.jpg (damaged & truncated))",
    ]
    settings = header.find("details/dl")
    assert [one.text for one in settings] == ["ks", "1, 3", "versions", "numpy 2.0", "seed", "0"]


def test_sections_in_order_and_reachable(body, full, tmp_path):
    tree = body(tmp_path / "report.html", full)
    anchors = [one.get("id") for one in tree.findall("main/section")]
    assert anchors == ["results", "differences", "indexes", "published", "failures"]
    links = [(one.get("href"), one.text) for one in tree.findall("nav//a")]
    assert links == [(f"#{anchor}", tree.find(f"main/section[@id='{anchor}']/h2").text) for anchor in anchors]
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    targets = {one.get("href")[1:] for one in tree.iter() if one.get("href", "").startswith("#")}
    assert targets <= set(ids)
    named = {one.get("aria-labelledby") for one in tree.iter() if one.get("aria-labelledby")}
    assert named <= set(ids) and len(named) == len(list(tree.iter("section")))


def test_failures_of_every_model_are_shown(body, full, tmp_path):
    tree = body(tmp_path / "report.html", full)
    failed = [one for failures in full.failures.values() for one in failures]
    articles = tree.findall("main/section[@id='failures']/section/article")
    assert len(articles) == len(failed) > 8
    asked = [text(article.find("header")).strip() for article in articles]
    assert all(shown.endswith(one.text or one.id) for shown, one in zip(asked, failed))


def test_each_image_is_embedded_once(body, full, tmp_path):
    tree = body(tmp_path / "report.html", full)
    embedded = [one.get("href") for one in tree.iter("image")]
    assert len(embedded) == len(set(embedded)) == 7  # of nine two cannot be read
    assert len(list(tree.iter("use"))) > 3 * len(embedded)


def test_the_file_needs_nothing_else(body, full, tmp_path):
    path = tmp_path / "report.html"
    tree = body(path, full)
    assert {one.tag for one in tree.iter()}.isdisjoint({"script", "link", "iframe", "base", "object", "img"})
    page = path.read_text(encoding="utf-8")
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert page.startswith('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">')
    assert "<title>Retrieval benchmark: Photos &amp; &lt;friends&gt;</title>" in page


def test_a_name_that_is_not_unicode_does_not_stop_the_report(full, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, replace(full, unreadable=[("caf\udce9.jpg", "gone")]))
    assert "caf?.jpg (gone)" in path.read_text(encoding="utf-8")


def test_a_folder_in_the_way(full, tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        write_report(tmp_path, full)
    with pytest.raises(ExportError, match="is a folder. Name the file"):
        check_report_file(tmp_path)


def test_places_can_be_checked_before(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "new" / "nested" / "report.html"):
        check_report_file(path)
    with pytest.raises(ExportError, match="file is a file. Give another file."):
        check_report_file(tmp_path / "file" / "report.html")


def test_nothing_is_said_about_what_was_not_measured(body, one_model, tmp_path):
    tree = body(tmp_path / "report.html", one_model)
    header = tree.find("header")
    assert [one.tag for one in header] == ["h1", "p"]
    assert text(header.find("p")) == (
        "9 images, 9 captions: 18 queries in both directions, answered by 1 model: only (only, weights of <someone>)."
    )
    assert [one.text for one in tree.findall("nav//a")] == ["Results"]
