"""`retrieval explain`: the PNG, what is printed, and mistakes."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.cli import explain as room
from retrieval.explain import explain
from retrieval.images import open_image


@pytest.fixture(autouse=True)
def here(loaded_once, tmp_path, monkeypatch):
    """The tiny model is loaded already, and files are written here."""
    monkeypatch.chdir(tmp_path)


def test_draws_a_png_and_says_which_words_matter(run, collection, photo_folder, tiny_encoder, tmp_path):
    done = run("explain", collection, photo_folder / "coffee.png", "a cup of coffee")
    assert done.status == 0, done.err
    assert done.rows[0] == ["what", "name", "value"]
    assert done.rows[1] == ["drawing", "coffee.explained.png", "gradient"]
    picture, _ = open_image(photo_folder / "coffee.png")
    explained = explain(tiny_encoder, picture, "a cup of coffee")
    assert done.rows[2] == ["score", "a cup of coffee", f"{explained.score:.4f}"]
    assert [row[:2] for row in done.rows[3:]] == [["word", word] for word in ("a", "cup", "of", "coffee")]
    assert float(done.rows[4][2]) == pytest.approx(explained.words[1][1], abs=1e-4)
    with Image.open(tmp_path / "coffee.explained.png") as drawing:
        assert drawing.format == "PNG" and drawing.size == picture.size
        hot = np.asarray(drawing.convert("L"), int) - np.asarray(picture.convert("L"), int)
    assert hot[explained.heat > 0.9].mean() > hot[explained.heat == 0].mean() + 30


def test_a_stored_image_and_another_file(run, collection):
    (found,) = run("explain", collection, "2019/beach/china.jpg", "a temple", "-o", "why/it.png",
                   "--method", "occlusion", "--json").objects
    assert set(found) == {"image", "query", "path", "score", "method", "hottest", "words"}
    assert (found["path"], found["method"], found["image"]) == ("why/it.png", "occlusion", "2019/beach/china.jpg")
    assert [one["word"] for one in found["words"]] == ["a", "temple"]
    assert open_image(Path("why/it.png"))[0].size == (640, 427)


def test_the_score_is_that_of_the_search(run, photo_folder, tmp_path):
    """Of a single word, which the built-in encoder is asked in sentences, and of words in quotes."""
    assert run("index", photo_folder, "-o", tmp_path / "own.collection").status == 0
    for query in ("cat", "a cat", '"a cat - asleep"'):
        hits = run("search", tmp_path / "own.collection", query, "--no-calibration", "--json").objects
        (found,) = run("explain", tmp_path / "own.collection", "chelsea.png", query, "--json").objects
        (score,) = [hit["score"] for hit in hits if hit["id"] == "chelsea.png"]
        assert found["score"] == pytest.approx(score, abs=2e-3)
    assert [one["word"] for one in found["words"]] == ["a", "cat", "-", "asleep"]


def test_large_images_are_drawn_smaller(run, collection, tmp_path):
    Image.effect_noise((3000, 1500), 50).convert("RGB").save(tmp_path / "large.jpg")
    assert run("explain", collection, "large.jpg", "noise").status == 0
    assert open_image(Path("large.explained.png"))[0].size == (1024, 512)


def test_in_a_terminal_it_is_drawn_in_colours(run, collection, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(room, "_draw", drawn.append)
    monkeypatch.setattr(room.sys, "stdout", Terminal())
    run("explain", collection, "coffee.png", "a cup")
    (picture,) = drawn
    assert picture.size == (600, 400)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("colours", "shown"), [("truecolor", True), ("", False)])
def test_half_blocks(monkeypatch, capsys, colours, shown):
    for name, value in {"FORCE_COLOR": "1" if shown else "", "COLORTERM": colours, "TERM": "xterm" if shown else "dumb",
                        "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    room._draw(Image.new("RGB", (80, 40), (255, 0, 0)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (10 if shown else 0)
    assert all(line.count("▀") == 40 and "255;0;0" in line for line in lines)


@pytest.mark.parametrize(("arguments", "message"), [
    (("gone.jpg", "a dog"), "'gone.jpg' is no file here, and no image of"),
    (("coffee.png", "  "), "query is empty"),
    (("coffee.png", "a cup - coffee"), "is not of words alone"),
    (("coffee.png", "id:rocket.jpg"), "is not of words alone"),
    (("coffee.png", "./picture.jpg"), "There is no image file ./picture.jpg"),
    (("coffee.png", "a dog", "-o", "why.jpg"), "why.jpg is not named as a PNG"),
    (("notes.txt", "a dog"), "The image notes.txt: not an image"),
])
def test_mistakes(run, collection, tmp_path, arguments, message):
    (tmp_path / "notes.txt").write_text("no image")
    done = run("explain", collection, *arguments)
    assert (done.status, done.out) == (1, "") and message in done.err and "Traceback" not in done.err
    assert not list(tmp_path.glob("*.png"))


def test_the_image_itself_is_never_written_over(run, collection, photo_folder):
    before = os.stat(photo_folder / "coffee.png").st_mtime_ns
    done = run("explain", collection, "coffee.png", "a cup", "-o", photo_folder / "coffee.png")
    assert done.status == 1 and "is the image itself" in done.err
    assert os.stat(photo_folder / "coffee.png").st_mtime_ns == before


def test_a_collection_that_is_not_there(run):
    done = run("explain", "gone.collection", "coffee.png", "a cup")
    assert done.status == 1 and "gone.collection" in done.err
