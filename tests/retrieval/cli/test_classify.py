"""`retrieval classify`: what is printed, and mistakes."""

import io
import json
import sys
from dataclasses import replace

import pytest
from PIL import Image

from retrieval.bootstrap import Estimate
from retrieval.cli import classify as room
from retrieval.cli import output


@pytest.fixture
def shades(tmp_path):
    """Two classes of four grey images: two, nearly black and nearly white."""
    for name, level in (("dark_side", 10), ("light", 240)):
        (tmp_path / "shades" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (level + number,) * 3).save(tmp_path / "shades" / name / f"{number}.png")
    return tmp_path / "shades"


@pytest.fixture(autouse=True)
def quick(loaded_once):
    """The tiny model is loaded already."""


@pytest.fixture
def classify(run, tiny_model, shades):
    return lambda *arguments: run("classify", shades, "-m", f"local-dir:{tiny_model}", *arguments)


def refused(done, *fragments, status=1):
    assert (done.status, done.out) == (status, ""), done.err
    assert "Traceback" not in done.err and done.err.count("Error: ") == 1
    for fragment in fragments:
        assert fragment in done.err, done.err


def test_values_when_piped(classify, tiny_model):
    done = classify("--probe")
    assert done.status == 0, done.err
    model = f"local-dir:{tiny_model}"
    assert done.rows[0] == ["model", "method", "metric", "value", "low", "high"]
    metrics = ["top_1", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"]
    assert [row[:3] for row in done.rows[1:]] == [
        [model, method, metric] for method in ("zero-shot", "linear probe") for metric in metrics
    ]
    # two of two images right: Clopper and Pearson's lower bound is the square root of 0.025
    assert done.rows[6][3:] == ["1", "0.158114", "1"]
    assert done.rows[8][3:] == ["1", "", ""]
    assert "2 images of 2 classes (25% of each class, drawn with seed 0); zero-shot with 8 templates." in done.err
    assert f"Linear probe of {model}: C = " in done.err
    assert "of 0.01, 0.1, 1, 10, 100, 1000, 10000, chosen by 3-fold cross-validation on its 6 training" in done.err


def test_a_row_per_class(classify):
    done = classify("--per-class")
    assert done.rows[0] == ["model", "method", "class", "name", "precision", "recall", "F1", "images"]
    assert [row[1:4] + row[7:] for row in done.rows[1:]] == [
        ["zero-shot", "dark_side", "dark side", "4"], ["zero-shot", "light", "light", "4"],
    ]


def test_json_has_everything(classify, shades, tiny_model):
    (shades / "loose.png").write_bytes((shades / "light" / "0.png").read_bytes())
    (shades / "light" / "bad.png").write_text("no image")
    (shades / "none").mkdir()
    (found,) = classify("--probe", "--shots", "1", "--test-share", "0.5", "--json").objects
    assert set(found) == {"model", "encoder", "folder", "classes", "split", "templates", "zero_shot",
                          "linear_probe", "left_out", "unlabelled", "skipped"}
    assert found["folder"] == str(shades) and found["encoder"] == f"local-dir:{tiny_model}"
    assert found["split"] == "50% of each class, drawn with seed 0" and found["unlabelled"] == ["loose.png"]
    assert found["left_out"] == [{"class": "none", "reason": "no readable image"}]
    assert [one["path"] for one in found["skipped"]] == [str(shades / "light" / "bad.png")]
    probe = found["linear_probe"]
    assert (probe["C"], probe["C_chosen"], probe["train_images"], probe["converged"]) == (10.0, False, 2, True)
    assert probe["top_1"][0] == 1.0 and [one["support"] for one in probe["per_class"]] == [2, 2]
    assert probe["per_class"][0] == {"folder": "dark_side", "name": "dark side", "precision": 1.0,
                                     "recall": 1.0, "f1": 1.0, "support": 2}


def test_what_is_left_out_is_named_on_stderr(classify, shades):
    (shades / "loose.png").write_bytes((shades / "light" / "0.png").read_bytes())
    (shades / "light" / "bad.png").write_text("no image")
    (shades / "none").mkdir()
    done = classify()
    assert "Classes left out: 1: none (no readable image)" in done.err
    assert "Images in no class folder, left out: 1: loose.png" in done.err
    assert "Skipped 1 unreadable:" in done.err and "bad.png: not an image" in done.err


def test_several_models_the_best_first(run, shades, tiny_model, other_model, monkeypatch):
    import retrieval.classify as library

    models = {f"local-dir:{tiny_model}": 0.25, f"local-dir:{other_model}": 0.75}
    measure = library.classify

    def with_known_accuracy(folder, model, **options):
        result = measure(folder, model, **options)
        assert result.encoder == model
        return replace(result, zero_shot=replace(result.zero_shot, top_1=Estimate(models[model], 0.0, 1.0)))

    monkeypatch.setattr(library, "classify", with_known_accuracy)
    worse, better = models
    done = run("classify", shades, "-m", worse, "-m", better, "-m", worse, "--json")
    assert [(one["model"], one["zero_shot"]["top_1"]) for one in done.objects] == [
        (better, [0.75, 0.0, 1.0]), (worse, [0.25, 0.0, 1.0]),
    ]


def test_the_table_of_a_terminal(classify, run, shades, monkeypatch):
    printed = []
    monkeypatch.setattr(output, "print_rows", lambda *rows, **more: printed.append((*rows, more)))
    monkeypatch.setattr(room.sys, "stdout", Terminal())
    classify("--probe")
    ((columns, rows, more),) = printed
    assert columns == ("model", "method", "top-1", "mean recall", "precision", "F1")
    assert [row[1] for row in rows] == ["zero-shot", "linear probe"]
    assert rows[1][2:] == ("100.0  15.8-100.0", "100.0  15.8-100.0", "100.0", "100.0")
    assert all(isinstance(cell, output.Best) for cell in rows[1][2:])
    assert more == {"title": f"{shades}: percent and 95 % interval"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_names_and_templates_from_files(classify, tmp_path):
    (tmp_path / "names.csv").write_text("dark_side,night\nlight,day\n")
    (tmp_path / "templates.txt").write_text("it is {}\n")
    (found,) = classify("--classes", tmp_path / "names.csv", "--templates", tmp_path / "templates.txt",
                        "--json").objects
    assert found["templates"] == ["it is {}"]
    assert [one["name"] for one in found["zero_shot"]["per_class"]] == ["night", "day"]


def test_the_model_of_the_environment(run, shades, tiny_model, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_MODEL", f"local-dir:{tiny_model}")
    assert run("classify", shades, "--json").objects[0]["model"] == f"local-dir:{tiny_model}"


def test_mistakes(run, classify, shades, tmp_path, monkeypatch):
    refused(run("classify", tmp_path / "gone"), "gone does not exist")
    refused(run("classify", shades / "light"), "no class folder with images, and 4 images outside class folders")
    refused(run("classify", shades / "light" / "0.png"), "0.png is a file")
    refused(classify("--shots", "4"), "add --probe", status=2)
    refused(classify("--probe", "--test-share", "1"), "--test-share", status=2)
    refused(classify("--classes", tmp_path / "gone.tsv"), "gone.tsv cannot be read")
    (tmp_path / "t.txt").write_text("a {}\nno place\n")
    refused(classify("--templates", tmp_path / "t.txt"), "t.txt, line 2: 'no place' has no place")
    refused(run("classify", shades, "-m", "nonsense"), "no model named 'nonsense'")
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    refused(classify("--probe"), "pip install 'crossmodal-retrieval[probe]'")


def test_a_second_run_says_the_same(classify):
    first, second = classify("--probe", "--json"), classify("--probe", "--json")
    assert json.loads(first.out) == json.loads(second.out)


def test_an_unknown_model_is_said_before_the_first_is_embedded(run, shades, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    done = run("classify", shades, "--model", tiny_model, "--model", "no-such-model")
    assert done.status == 1 and "no model named 'no-such-model'" in done.err and not (tmp_path / "cache").exists()
