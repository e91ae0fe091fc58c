import numpy as np
import pytest

from retrieval.rank.diversity import candidates_for, diverse_order

# Two near twins, then one that is unlike them and scores less; cosines 0-1: 0.96, 0-2: 0, 1-2: 0.28.
SCORES = np.array([0.5, 0.45, 0.3])
VECTORS = np.array([[1, 0], [0.96, 0.28], [0, 1]], np.float32)


def test_by_hand():
    # Stretched scores 1, 0.75, 0. First comes 0. Then, with weight 0.5:
    # 1: 0.5 * 0.75 - 0.5 * 0.96 = -0.105; 2: 0 - 0 = 0.
    assert diverse_order(SCORES, VECTORS, 3, 0.5).tolist() == [0, 2, 1]
    # With 0.7: 1: 0.525 - 0.288 = 0.237; 2: 0.
    assert diverse_order(SCORES, VECTORS, 3, 0.7).tolist() == [0, 1, 2]


def test_the_ends_of_the_weight():
    assert diverse_order(SCORES, VECTORS, 2, 1).tolist() == [0, 1]
    assert diverse_order(SCORES, VECTORS, 2, 0).tolist() == [0, 2]


def test_likeness_counts_the_most_alike_of_those_chosen():
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]], np.float32)
    # After 0 and 1: 2 is like 1 (0.8), 3 is like 1 (0.6) although unlike 0.
    assert diverse_order(np.array([1.0, 0.9, 0.5, 0.5]), vectors, 4, 0.3).tolist() == [0, 1, 3, 2]


def test_a_negative_cosine_is_unlike_too():
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    assert diverse_order(np.array([0.5, 0.4, 0.4]), vectors, 2, 0.5).tolist() == [0, 2]


@pytest.mark.parametrize(("n", "k", "order"), [(0, 3, []), (1, 3, [0]), (3, 5, [0, 1, 2])])
def test_fewer_candidates_than_asked_for(n, k, order):
    assert diverse_order(SCORES[:n], VECTORS[:n], k, 1).tolist() == order


def test_equal_scores_are_told_apart_by_likeness_alone():
    assert diverse_order(np.full(3, 0.2), VECTORS, 2, 0.7).tolist() == [0, 2]


def test_how_many_to_choose_among():
    assert (candidates_for(3), candidates_for(10), candidates_for(40)) == (50, 50, 200)
