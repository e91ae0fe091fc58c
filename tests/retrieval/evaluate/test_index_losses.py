"""Losses told apart on vectors small enough to know every answer."""

import numpy as np
import pytest

from indexes import IndexSpec, exact_search
from indexes.errors import SpecError
from retrieval.corpus.captions import Caption
from retrieval.evaluate import index_losses
from retrieval.evaluate.evaluation import Evaluation, score_directions
from retrieval.evaluate.index_losses import index_scores
from retrieval.evaluate.scores import Sampling
from retrieval.evaluate.task import Task
from retrieval.metrics import Relevance, hit_rate, relevant_ranks

FEW = Sampling(resamples=200)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def evaluation(images, texts, owners):
    captions = [Caption(f"{owner}.jpg", f"caption {at}") for at, owner in enumerate(owners)]
    own, owners = np.arange(len(owners)), np.asarray(owners)
    task = Task(
        [f"{at}.jpg" for at in range(len(images))], captions, owners,
        Relevance.from_pairs(own, owners, n_queries=len(own)),
        Relevance.from_pairs(owners, own, n_queries=len(images)),
    )
    return Evaluation("m", "m", task, score_directions(task, texts, images, sampling=FEW), {}, images, texts)


@pytest.fixture(scope="module")
def noisy():
    """300 images, two captions each, near their image but not always nearest."""
    random = np.random.default_rng(3)
    images = unit(random.standard_normal((300, 16)))
    owners = np.repeat(np.arange(300), 2)
    return evaluation(images, unit(images[owners] + 0.35 * random.standard_normal((600, 16))), owners)


def test_a_flat_index_loses_nothing(noisy):
    (flat,) = index_scores(noisy, [IndexSpec("Flat")], sampling=FEW)
    text_to_image = noisy.text_to_image
    for k in (1, 5, 10):
        assert flat.exact[k].value == flat.codes[k].value == flat.found[k].value == text_to_image.hit_rates[k]
        assert flat.quantisation_loss[k].value == flat.search_loss[k].value == 0
        assert flat.exact[k] == text_to_image.estimates[f"R@{k}"]  # the same draws, the same interval
    assert flat.setting == "" and flat.measured.ann_recall == 1.0


def test_what_codes_lose_and_what_searching_a_part_loses(noisy):
    scores = index_scores(noisy, [IndexSpec("IVF8,PQ4x4")], sampling=FEW)
    assert [one.setting for one in scores] == [f"nprobe={n}" for n in (1, 2, 4, 8)]
    (exact,) = {one.exact[10].value for one in scores}
    (codes,) = {one.codes[10].value for one in scores}
    assert exact == noisy.text_to_image.hit_rates[10] and codes < exact
    found = [one.found[10].value for one in scores]
    assert found == sorted(found) and found[0] < codes and found[-1] == codes
    for one in scores:
        for k in (1, 5, 10):
            assert one.exact[k].value - one.quantisation_loss[k].value - one.search_loss[k].value == pytest.approx(
                one.found[k].value)


def test_hit_rates_are_those_of_the_rows_returned(noisy):
    one = index_scores(noisy, [IndexSpec("IVF8,Flat")], sampling=FEW)[0]
    owners = noisy.task.images
    in_top = (one.measured.rows[:, :5] == owners[:, None]).any(axis=1)
    assert one.found[5].value == in_top.mean()
    top = exact_search(noisy.images, noisy.texts, 5).rows
    assert one.exact[5].value == (top == owners[:, None]).any(axis=1).mean()


def test_a_sample_of_very_many_captions(noisy, monkeypatch):
    monkeypatch.setattr(index_losses, "MOST_QUERIES", 100)
    (flat,) = index_scores(noisy, [IndexSpec("Flat")], sampling=Sampling(200, seed=5))
    asked = np.sort(np.random.default_rng(5).choice(600, 100, replace=False))
    ranks = relevant_ranks(noisy.texts[asked], noisy.images, noisy.task.text_to_image.of(asked))
    assert flat.found[1].value == hit_rate(ranks, 1).mean()
    assert len(flat.measured.rows) == 100


def test_an_index_that_cannot_be_built(noisy):
    with pytest.raises(SpecError, match="needs at least 1024 vectors"):
        index_scores(noisy, [IndexSpec("IVF1024,Flat")], sampling=FEW)


def test_fewer_images_than_k():
    images = unit(np.eye(3, 4) + 0.01)
    one = index_scores(evaluation(images, images, [0, 1, 2]), [IndexSpec("Flat")], sampling=FEW)[0]
    assert (one.measured.k, one.found[1].value, one.found[10].value) == (3, 1.0, 1.0)


def test_json(noisy):
    one = index_scores(noisy, [IndexSpec("IVF8,Flat", nprobe=3)], ks=(1, 10), sampling=FEW)[0].to_json()
    assert (one["index"], one["nprobe"], one["vectors"], one["dim"]) == ("IVF8,Flat", 1, 300, 16)
    assert set(one["found"]) == {"R@1", "R@10"} and one["ann_recall@10"] <= 1


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "HNSW8"])
def test_which_copy_of_a_picture_comes_is_no_loss(factory):
    """Every picture three times: which of three equal scores reaches the k-th place is the index's choice."""
    random = np.random.default_rng(4)
    images = np.repeat(unit(random.standard_normal((20, 16))), 3, axis=0)
    owners = np.arange(60)
    copied = evaluation(images, unit(images + 0.4 * random.standard_normal((60, 16))), owners)
    one = index_scores(copied, [IndexSpec(factory)], ks=(1, 2, 5), sampling=FEW)[-1]
    assert one.measured.ann_recall == 1.0
    assert one.exact == one.codes == one.found
    assert 0 < one.exact[1].value < one.exact[2].value < one.exact[5].value


def test_copies_take_the_places_of_exact_search():
    copies = index_losses._copies(np.float32([[1, 0], [0, 1], [1, 0], [0.6, 0.8], [1, 0]]))
    assert copies == {row: [0, 2, 4] for row in (0, 2, 4)}
    rows = np.array([[4, 1, 2, 0], [2, 3, -1, -1], [4, 4, 4, 4]])
    in_order = index_losses._earlier_copies_first(rows, copies)
    assert in_order.tolist() == [[0, 1, 2, 4], [0, 3, -1, -1], [0, 2, 4, 4]]
    assert rows[0, 0] == 4  # the caller's stay as they were
