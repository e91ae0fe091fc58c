import re

import numpy as np
import pytest

from retrieval.classify.prompts import (
    TEMPLATES, class_vectors, names_of, read_class_names, read_templates, spoken,
)
from retrieval.errors import ClassesError


class Lettered:
    """A text is the unit vector of how often it has an a, a b, and anything else."""

    name, dim, fingerprint = "lettered", 3, "lettered-1"

    def encode_texts(self, texts):
        counts = np.array([[text.count("a"), text.count("b"), 1] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def unit(vector):
    return np.array(vector) / np.linalg.norm(vector)


def test_a_class_is_the_mean_of_its_sentences_made_unit_again():
    vectors = class_vectors([["a"], ["b", "bb"]], ["{}", "{}{}"], Lettered())
    first = unit([1, 0, 1]) + unit([2, 0, 1])
    second = unit([0, 1, 1]) + unit([0, 2, 1]) + unit([0, 2, 1]) + unit([0, 4, 1])
    np.testing.assert_allclose(vectors, [unit(first), unit(second)], atol=1e-6)
    assert vectors.dtype == np.float32


def test_long_lists_are_encoded_in_parts():
    names = [["a" * (1 + number % 5)] for number in range(700)]
    vectors = class_vectors(names, ["{}", "b{}"], Lettered())  # 1400 texts
    for number in (0, 511, 512, 699):
        length = len(names[number][0])
        np.testing.assert_allclose(
            vectors[number], unit(unit([length, 0, 1]) + unit([length, 1, 1])), atol=1e-6)


@pytest.mark.parametrize("template", ["x {} y", "x {c} y", "x {label} y"])
def test_placeholders(template, tmp_path):
    (tmp_path / "t.txt").write_text(f"\n{template}\n")
    (read,) = read_templates(tmp_path / "t.txt")
    encoder = Lettered()
    texts = []
    encoder.encode_texts = lambda given: texts.extend(given) or np.ones((len(given), 3), np.float32)
    class_vectors([[r"back\1slash {c}"]], [read], encoder)
    assert texts == [r"x back\1slash {c} y"]


def test_the_templates_of_ours_have_places_for_names(tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(TEMPLATES))
    assert tuple(read_templates(tmp_path / "t.txt")) == TEMPLATES


@pytest.mark.parametrize(("content", "message"), [
    ("a photo of a {}\na photo of a cat\n", "t.txt, line 2: 'a photo of a cat' has no place"),
    ("a {name}\n", "line 1: 'a {name}' has no place"),
    ("\n\n", "holds no template"),
])
def test_templates_to_mend(content, message, tmp_path):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(ClassesError, match=re.escape(message)):
        read_templates(tmp_path / "t.txt")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ClassesError, match="gone.txt cannot be read: No such file"):
        read_templates(tmp_path / "gone.txt")
    (tmp_path / "latin.tsv").write_bytes("n1\tm\u00fcsli".encode("latin-1"))
    with pytest.raises(ClassesError, match="latin.tsv is not text in UTF-8"):
        read_class_names(tmp_path / "latin.tsv")


def test_class_names_from_tabs_and_commas(tmp_path):
    (tmp_path / "n.tsv").write_text('\ufefffolder\tname\nn01\ttench, Tinca tinca\n\nn02\t"gold" fish\nn02\tcarp\n')
    assert read_class_names(tmp_path / "n.tsv") == {"n01": ["tench, Tinca tinca"], "n02": ['"gold" fish', "carp"]}
    (tmp_path / "n.csv").write_text('n01,"tench, Tinca tinca"\nn02,goldfish\n')
    assert read_class_names(tmp_path / "n.csv") == {"n01": ["tench, Tinca tinca"], "n02": ["goldfish"]}


@pytest.mark.parametrize("line", ["n02 goldfish", "n02\t", "\tgoldfish", "n02\tgold\tfish"])
def test_class_names_to_mend(line, tmp_path):
    (tmp_path / "n.tsv").write_text(f"n01\ttench\n{line}\n")
    with pytest.raises(ClassesError, match="n.tsv, line 2: .* is not a folder, a tab and a name"):
        read_class_names(tmp_path / "n.tsv")


def test_every_class_needs_its_name(tmp_path):
    given = {"n01": ["tench"], "n09": ["unused"]}
    assert names_of(["n01"], given, tmp_path / "n.tsv") == [["tench"]]
    with pytest.raises(ClassesError, match="n.tsv names 1 of the 3 class folders; .* of the others: n02, n03"):
        names_of(["n01", "n02", "n03"], given, tmp_path / "n.tsv")


@pytest.mark.parametrize(("folder", "name"), [
    ("red_panda", "red panda"), ("red-panda", "red panda"), ("_a__b-", "a b"), ("Zebra", "Zebra"), ("--", "--"),
])
def test_folder_names_as_words(folder, name):
    assert spoken(folder) == name
