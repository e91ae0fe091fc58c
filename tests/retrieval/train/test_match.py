import numpy as np
import pytest

from retrieval.errors import TrainingError
from retrieval.train.match import MatchExamples, MatchSettings, hard_negatives, train_match


def examples(n=24, seed=0):
    """Images with one of n signs somewhere among four cells, captions that say which among three words.

    The dual encoder cannot tell any of them apart: all of its vectors are nearly the same.
    """
    random = np.random.default_rng(seed)
    signs = np.eye(n, dtype=np.float16) * 4
    places = random.normal(0, 0.1, (n, 4, n)).astype(np.float16)
    places[np.arange(n), random.integers(0, 4, n)] = signs
    words = random.normal(0, 0.1, (n, 3, n)).astype(np.float16)
    words[np.arange(n), random.integers(0, 2, n)] = signs
    vectors = np.ones((n, n)) + random.normal(0, 0.01, (n, n))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    there = np.ones((n, 3), bool)
    there[:, 2] = False
    projection = np.eye(n, dtype=np.float32)
    places.flags.writeable = False  # as where they are mapped from the cache
    return MatchExamples(places, words, there, np.arange(n), vectors, vectors, projection, projection)


def test_hard_negatives_are_the_best_but_its_own():
    images = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    texts = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    some = MatchExamples(np.zeros((4, 1, 1)), np.zeros((3, 1, 1)), np.ones((3, 1), bool), np.array([0, 1, 0]), images, texts, images.T, images.T)
    assert hard_negatives(some, 2).tolist() == [[1, 2], [0, 2], [3, 2]]


SETTINGS = MatchSettings(epochs=60, batch_size=8, negatives=7, learning_rate=3e-3, token_dropout=0, dropout=0)


def test_it_learns_what_only_tokens_tell():
    seen = []
    train_match(examples(), SETTINGS, width=32, layers=1, on_progress=seen.append)
    assert seen[-1].step == seen[-1].steps == 180
    assert seen[-1].loss < 0.5 and seen[-1].right > 0.8  # chance: log 8 = 2.08, and 1 of 8


def test_the_same_seed_gives_the_same_model():
    short = MatchSettings(epochs=2, batch_size=8, negatives=3)
    one, same, other = (
        train_match(examples(), MatchSettings(**{**short.__dict__, "seed": seed}), width=16, layers=1).score[0].weight
        for seed in (0, 0, 1)
    )
    assert (one == same).all() and not (one == other).all()


def test_time_is_up_at_once():
    seen = []
    train_match(examples(), MatchSettings(epochs=10**6, batch_size=8, minutes=1e-9), width=16, layers=1, on_progress=seen.append)
    assert seen == []


def test_too_few_images():
    with pytest.raises(TrainingError, match="5 captioned images are too few"):
        train_match(examples(5), SETTINGS)


def test_a_loss_that_runs_away_is_told():
    broken = examples()
    broken.words[:] = np.nan
    with pytest.raises(TrainingError, match="The loss is nan in step 0. Lower --learning-rate"):
        train_match(broken, SETTINGS, width=16, layers=1)
