import base64
import io
import re
from pathlib import Path

from PIL import Image

import retrieval
from retrieval import Collection, Results
from retrieval.types import Hit


def test_are_a_list_that_reads_well():
    results = Results([
        Hit("a dog", 1, 0.31234, "dog.jpg", "/photos/dog.jpg"),
        Hit("a dog", 2, 0.2, "a.mp4#t=83.5", "/photos/a.mp4#t=83.5"),
        Hit("a cat", 1, 0.25, "cat.jpg", "/photos/cat.jpg", "a cat asleep"),
    ])
    assert isinstance(results, list) and results == [*results]
    assert repr(results) == str(results) == (
        "a dog\n"
        "   1  0.3123  /photos/dog.jpg\n"
        "   2  0.2000  /photos/a.mp4 @ 00:01:23.5\n"
        "a cat\n"
        "   1  0.2500  a cat asleep  /photos/cat.jpg"
    )
    assert [(query, len(hits)) for query, hits in results.by_query()] == [("a dog", 2), ("a cat", 1)]
    assert repr(Results()) == "no results"


def test_a_part_of_them_shows_itself_as_well():
    results = Results([Hit("a dog", rank, 0.3, f"{rank}.jpg", f"/{rank}.jpg") for rank in (1, 2, 3)])
    part = results[1:]
    assert isinstance(part, Results) and [hit.rank for hit in part] == [2, 3]
    assert part._repr_html_().count("<figure>") == 2
    assert results[0].rank == 1 and results[-1].rank == 3


def test_queries_that_are_called_alike_stay_apart():
    """As the same words with other filters, or asked twice."""
    one, two = Hit("a dog", 1, 0.3, "a.jpg", "/a.jpg"), Hit("a dog", 2, 0.2, "b.jpg", "/b.jpg")
    results = Results([one, two, one])
    assert results.by_query() == [("a dog", [one, two]), ("a dog", [one])]
    assert repr(results).splitlines().count("a dog") == 2
    assert results._repr_html_().count("<h2>a dog</h2>") == 2
    assert Results([two]).by_query() == [("a dog", [two])]


def test_a_notebook_shows_thumbnails(photo_folder):
    """And nothing in a name or query is taken for HTML."""
    path = photo_folder / "rocket.jpg"
    html = Results([Hit("<b>a rocket", 1, 0.3, "<i>.jpg", str(path))])._repr_html_()
    [picture] = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (240, 160)
    assert "<h2>&lt;b&gt;a rocket</h2>" in html and "&lt;i&gt;.jpg" in html and "<i>" not in html
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    rules = re.findall(r"([^{}]+)\{", style)
    assert all(name.strip().startswith(".contact-sheet ") for rule in rules for name in rule.split(","))


def test_the_three_lines_of_the_manual(photo_folder, tmp_path, collection_of_words):
    collection_of_words(tmp_path / "photos.collection", {
        photo_folder / "rocket.jpg": "a rocket at night", photo_folder / "chelsea.png": "a cat that looks up"})
    results = Collection.open(tmp_path / "photos.collection").search("a cat that looks up", k=2)
    assert isinstance(results, Results)
    assert [(hit.rank, hit.id) for hit in results] == [(1, "chelsea.png"), (2, "rocket.jpg")]
    assert results[0].score > 0.999 > results[1].score


def test_type_checkers_are_told_of_every_name():
    stub = Path(retrieval.__file__).with_name("__init__.pyi").read_text()
    told = {name: module for module, name in re.findall(r"from (\S+) import (\w+) as \2\n", stub)}
    assert told == retrieval._EXPORTS
