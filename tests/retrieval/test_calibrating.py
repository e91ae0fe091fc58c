from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval import calibrating as room
from retrieval.calibrating import _chosen, _Held, _parted
from retrieval.calibration import Calibration, text_hash
from retrieval.corpus.captions import CaptionSet
from retrieval.corpus.layouts import Caption


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def hubs():
    """400 images and a caption of each; every fourth image is pulled to where all captions lie."""
    random = np.random.default_rng(0)
    middle = unit(random.standard_normal((1, 16)))
    images = unit(random.standard_normal((400, 16)))
    texts = unit(images + 0.5 * random.standard_normal((400, 16)) / 4 + 0.8 * middle)
    images[::4] = unit(images[::4] + 0.9 * middle)
    references = unit(unit(random.standard_normal((300, 16))) + 0.8 * middle)
    return _Held(texts, images, np.arange(400)), references


def test_weight_and_k_are_chosen_by_one_half_and_measured_by_the_other(hubs):
    held, references = hubs
    start = Calibration(references.astype(np.float16), np.arange(300), source="captions.csv")
    chosen, report = _chosen(start, held)
    assert chosen.weight > 0 and (chosen.weight, chosen.k) == (report.weight, report.k)
    assert chosen.source == "captions.csv" and chosen.hashes.tolist() == list(range(300))
    assert (report.captions, report.images, report.references) == (200, 400, 300)
    scores = held.texts[1::2].astype(np.float64) @ held.images.T  # odd places measure
    own = np.arange(1, 400, 2)
    less = scores - chosen.biases(held.images)
    for k in (1, 5, 10):
        for values, found in ((scores, report.before[k]), (less, report.after[k])):
            ranks = (values > values[np.arange(200), own][:, None]).sum(axis=1) + 1
            assert found.value == pytest.approx(np.mean(ranks <= k), abs=0.006)
        assert report.gained[k].value == pytest.approx(report.after[k].value - report.before[k].value)
    assert report.gained[1].low > 0


def test_where_it_lifts_nothing_the_weight_is_0(hubs):
    held, _ = hubs
    references = unit(np.random.default_rng(3).standard_normal((300, 16))).astype(np.float16)
    own = _Held(held.images, held.images, held.owners)  # every caption finds its image as it is
    chosen, report = _chosen(Calibration(references, np.arange(300)), own)
    assert chosen.weight == report.weight == 0
    assert report.before[1].value == report.after[1].value == 1


def test_references_that_are_noise_are_found_out():
    """Each of them gets a weight by the captions that choose."""
    weights = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        images = unit(random.standard_normal((200, 16)))
        texts = unit(images + 0.9 * random.standard_normal((200, 16)))
        noise = unit(random.standard_normal((100, 16))).astype(np.float16)
        chosen, report = _chosen(Calibration(noise, np.arange(100)), _Held(texts, images, np.arange(200)))
        assert chosen.weight == report.weight
        weights.append(report.weight)
    assert np.count_nonzero(weights) <= 1


def captions(*pairs):
    return CaptionSet([Caption(image, text) for image, text in pairs], "table", 0, Path("captions.csv"))


def test_held_out_captions_are_no_references():
    pairs = [(f"{n}.jpg", f"text {n} {c}") for n in range(120) for c in range(2)]
    pairs += [("0.jpg", "the same for all"), *((f"{n}.jpg", "the same for all") for n in range(1, 120))]
    ids = [f"{n}.jpg" for n in range(120)]
    held, owners, texts = _parted(captions(*pairs), ids, np.random.default_rng(0))
    assert len(held) == 60 * 3 and len(set(owners.tolist())) == 60
    for text, owner in zip(held, owners.tolist()):
        assert text == "the same for all" or text.startswith(f"text {owner} ")
    assert len(texts) == 60 * 2
    assert not {text_hash(text) for text in texts} & {text_hash(text) for text in held}


def test_captions_of_other_images_are_preferred():
    here = [(f"{n}.jpg", f"here {n}") for n in range(100)]
    elsewhere = [(f"other-{n}.jpg", f"elsewhere {n}") for n in range(1000)]
    _, owners, texts = _parted(captions(*here, *elsewhere), [name for name, _ in here], np.random.default_rng(0))
    assert len(owners) == 50
    assert sorted(texts) == sorted(text for _, text in elsewhere)


@pytest.mark.parametrize("here", [0, 99])
def test_too_few_images_of_the_collection_measure_nothing(here):
    pairs = [(f"{n}.jpg", f"text {n}") for n in range(200)]
    ids = [f"{n}.jpg" for n in range(here)] + [f"unnamed-{n}.jpg" for n in range(200)]
    held, owners, texts = _parted(captions(*pairs), ids, np.random.default_rng(0))
    assert held == [] and len(owners) == 0 and len(texts) == 200


def test_not_all_images_compete(monkeypatch):
    monkeypatch.setattr(room, "_COMPETING", 10)
    vectors = np.eye(40, dtype=np.float32)
    store = SimpleNamespace(vectors=SimpleNamespace(take=lambda rows: vectors[rows]))
    owners = np.array([7, 3, 7])
    held = room._competing(vectors[[7, 3, 7]], owners, np.arange(40), store, np.random.default_rng(0))
    assert held.images.shape == (10, 40)
    np.testing.assert_array_equal(held.images[held.owners], vectors[owners])
    assert len({row.tobytes() for row in held.images}) == 10
