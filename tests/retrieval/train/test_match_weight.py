"""The weight of a second look, where first and second scores are written down."""

import numpy as np
import pytest
import torch

from retrieval.train.match import MatchExamples
from retrieval.train.match_weight import Lift, chosen_weight


class Written:
    """A cross-encoder whose score is the place's value times the word's."""

    def places(self, tokens):
        return tokens

    def words(self, tokens):
        return tokens

    def __call__(self, places, words, there):
        return (places * words).sum((1, 2))


def at(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def examples(owners, texts, again, images=(0, 30, 60)):
    """again: each caption's second score of image 1; the others get 0"""
    places = np.zeros((len(images), 1, 1), np.float16)
    places[1] = 1
    words = np.array(again, np.float16)[:, None, None]
    unused = np.eye(2, dtype=np.float32)
    return MatchExamples(places, words, np.ones((len(owners), 1), bool), np.array(owners), at(*images), at(*texts), unused, unused)


def test_as_much_as_helps_most_and_no_more():
    """In units of their spread first scores are (0.85, 0.55, -1.40) and (1.12, 0.18, -1.31), second ones (-0.71, 1.41, -0.71).

    Image 1 comes first from a weight of 0.14 on where it is right, and of 0.44 on where it is wrong.
    """
    found = chosen_weight(Written(), examples(owners=[1, 0], texts=[10, -20], again=[1, 1]))
    assert found == Lift(weight=0.2, photos=3, before=0.5, after=1.0, low=0.0, high=1.0)


def test_one_that_does_not_help_weighs_nothing():
    for again in ([0, 0], [-1, 1]):
        assert chosen_weight(Written(), examples([1, 0], [25, -20], again)) == Lift(0.0, 3, 1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(("depth", "after"), [(1, 0.0), (2, 0.0), (3, 1.0)])
def test_only_the_best_are_looked_at(depth, after):
    """Image 2 comes third, and its second score is the best: if it is looked at."""
    some = examples([2], [0], [1], images=(0, 10, 20))
    some.places[:] = np.array([-1, 0, 1], np.float16)[:, None, None]
    found = chosen_weight(Written(), some, depth=depth)
    assert (found.weight > 0) == (after > 0) and (found.before, found.after) == (0.0, after)


def test_many_captions_go_in_parts():
    some = examples([1, 0] * 50, [10, -20] * 50, [1, 1] * 50)
    found = chosen_weight(Written(), some)
    assert (found.weight, found.before, found.after) == (0.2, 0.5, 1.0)
    assert torch.is_inference_mode_enabled() is False
