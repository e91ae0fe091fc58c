"""`retrieval tag`: what is printed, and mistakes. Which tags are right is for classify/test_tags."""

import io

import pytest

from retrieval.cli import output


@pytest.fixture(autouse=True)
def quick(loaded_once):
    """The tiny model is loaded already."""


@pytest.fixture
def tag(run, collection):
    return lambda *arguments: run("tag", collection, *arguments)


def test_a_row_for_each_tag(tag, photo_folder, tmp_path):
    (tmp_path / "l.txt").write_text("cat\ndog\ncow\n")
    done = tag("--labels", tmp_path / "l.txt", "--threshold", "-1", "--top", "2")
    assert done.status == 0, done.err
    assert done.rows[0] == ["path", "label", "score", "probability"]
    assert len(done.rows) == 1 + 6 * 2
    assert {row[0] for row in done.rows[1:]} == {str(path) for path in photo_folder.rglob("*.*")}
    assert {row[1] for row in done.rows[1:]} <= {"cat", "dog", "cow"}
    for best, second in zip(done.rows[1::2], done.rows[2::2]):
        assert best[0] == second[0] and float(best[2]) >= float(second[2])
    assert "6 of 6 images tagged, each with the best 2 labels with score >= -1." in done.err


def test_json_has_every_image(tag):
    objects = tag("--label", "cat", "--threshold", "1", "--json").objects
    assert len(objects) == 6 and all(one["tags"] == [] for one in objects)
    objects = tag("--label", "cat", "--label", "dog", "--json").objects
    assert {frozenset(one) for one in objects} == {frozenset({"id", "path", "tags"})}
    assert sum(tag["probability"] for tag in objects[0]["tags"]) == pytest.approx(1, abs=1e-5)
    assert set(objects[0]["tags"][0]) == {"label", "score", "probability"}


def test_measured_by_truth(tag, tmp_path):
    (tmp_path / "t.csv").write_text("image,label\nchelsea.png,cat\nrocket.jpg,cat\nrocket.jpg,cow\ngone.jpg,cat\n")
    arguments = ("--label", "cat", "--threshold", "-1", "--truth", tmp_path / "t.csv")
    done = tag(*arguments)
    assert done.status == 0, done.err
    assert done.rows[0] == ["metric", "value", "low", "high"]
    assert [row[:2] for row in done.rows[1:]] == [
        ["accuracy", "1"], ["exact", "1"], ["micro_precision", "1"], ["micro_recall", "1"], ["micro_f1", "1"],
        ["macro_precision", "1"], ["macro_recall", "1"], ["macro_f1", "1"]]
    assert "1 of its images are not in the collection: gone.jpg" in done.err
    assert "1 of its labels were not asked for: cow" in done.err
    assert "2 images of known labels, tagged with labels with score >= -1." in done.err
    assert tag(*arguments, "--per-label").rows == [
        ["label", "precision", "recall", "F1", "images", "given"], ["cat", "1.0000", "1.0000", "1.0000", "2", "2"]]
    (found,) = tag(*arguments, "--json").objects
    assert found["rule"] == "labels with score >= -1" and found["micro_f1"] == 1.0
    refused = tag(*arguments, "--strict")
    assert (refused.status, refused.out) == (1, "") and "Without --strict they are left out" in refused.err


def test_mistakes(tag, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    for arguments, status, message in (
        ((), 2, "Give labels"),
        (("--labels", "l.txt", "--label", "cat"), 2, "Give labels: either"),
        (("--labels", tmp_path / "gone.txt"), 1, "gone.txt cannot be read"),
        (("--labels", tmp_path / "empty.txt"), 1, "empty.txt holds no label"),
        (("--label", "cat", "--label", "Cat"), 1, "--label has labels more than once: cat"),
        (("--label", "cat", "--label", " "), 1, "--label has an empty label"),
        (("--label", "cat"), 1, "nothing to be more probable than"),
        (("--label", "cat", "--threshold", "2"), 2, "--threshold"),
        (("--label", "cat", "--threshold", "nan"), 1, "A threshold is a score"),
        (("--label", "cat", "--threshold", "0", "--probability", "0.5"), 2, "two rules"),
        (("--label", "cat", "--strict"), 2, "about --truth"),
        (("--label", "cat", "--threshold", "0", "--truth", tmp_path / "gone.csv"), 1, "no file of true labels"),
    ):
        done = tag(*arguments)
        assert (done.status, done.out) == (status, ""), (arguments, done.out, done.err)
        assert message in done.err and "Traceback" not in done.err, (arguments, done.err)


def test_a_table_for_every_thousand_on_a_terminal(monkeypatch):
    printed = []

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(output.sys, "stdout", Terminal())
    monkeypatch.setattr(output, "print_rows", lambda columns, rows: printed.append((columns, len(rows))))
    output.stream_rows(("a", "b"), iter([(1, 2)] * 2300))
    assert printed == [(("a", "b"), 1000), (("a", "b"), 1000), (("a", "b"), 300)]
