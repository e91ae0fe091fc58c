"""True labels from tables, and what of them can be judged."""

import logging

import pytest

from retrieval.classify.truth import match_truth, read_truth
from retrieval.errors import CaptionsError, ClassesError

IDS = ["a.jpg", "2019/b.jpg", "c.jpg"]


def test_several_labels_an_image_and_none(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("image,label\nb.jpg,dog\na.jpg,cat\nb.jpg,Cat\nc.jpg,\n")
    truth = read_truth(file)
    assert truth == {"b.jpg": ["dog", "Cat"], "a.jpg": ["cat"], "c.jpg": []}
    matched = match_truth(truth, IDS, ["cat", "dog"], file)
    assert matched.images.tolist() == [0, 1, 2]
    assert matched.true.tolist() == [[True, False], [True, True], [False, False]]
    assert (matched.missing, matched.unknown) == ([], [])


def test_columns_may_be_called_otherwise(tmp_path):
    (tmp_path / "t.tsv").write_text("tag\tpath\ncat\ta.jpg\n")
    assert read_truth(tmp_path / "t.tsv") == {"a.jpg": ["cat"]}


def test_what_cannot_be_judged_is_named_and_counted(caplog, tmp_path):
    truth = {"a.jpg": ["cat", "cow"], "gone.jpg": ["cat"]}
    with caplog.at_level(logging.WARNING, logger="retrieval"):
        matched = match_truth(truth, IDS, ["cat", "dog"], tmp_path / "t.csv")
    assert matched.images.tolist() == [0] and matched.true.tolist() == [[True, False]]
    assert (matched.missing, matched.unknown) == (["gone.jpg"], ["cow"])
    assert "1 of its images are not in the collection: gone.jpg; left out." in caplog.text
    assert "1 of its labels were not asked for: cow; left out." in caplog.text
    with pytest.raises(ClassesError, match="1 of its images .*: gone.jpg; 1 of its labels .*: cow. Without --strict"):
        match_truth(truth, IDS, ["cat", "dog"], tmp_path / "t.csv", strict=True)


def test_truth_of_other_images(tmp_path):
    with pytest.raises(ClassesError, match="1 of its images are not in the collection: x.jpg. Give"):
        match_truth({"x.jpg": ["cat"]}, IDS, ["cat"], tmp_path / "t.csv")


def test_tables_to_mend(tmp_path):
    (tmp_path / "t.csv").write_text("image,colour\na.jpg,red\n")
    with pytest.raises(CaptionsError, match="has no label column"):
        read_truth(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image,label\n")
    with pytest.raises(ClassesError, match="names no image"):
        read_truth(tmp_path / "t.csv")
    with pytest.raises(CaptionsError, match="There is no file of true labels"):
        read_truth(tmp_path / "gone.csv")
