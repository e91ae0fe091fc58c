import numpy as np
import pytest

from retrieval.errors import QueryError
from retrieval.fusion import fuse

X, Y, Z = np.eye(3, dtype=np.float32)


def at(degrees):
    """On the circle through X and Y."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0], np.float32)


@pytest.mark.parametrize(
    ("vectors", "weights", "expected"),
    [
        ([X, Y], [1, 1], [0.5**0.5, 0.5**0.5, 0]),
        ([X, Y], [3, 4], [0.6, 0.8, 0]),
        ([X, Y], [3, -4], [0.6, -0.8, 0]),
        ([X, Y, Z], [2, 1, -2], [2 / 3, 1 / 3, -2 / 3]),
        ([X], [0.1], X),
        ([X], [-2], -X),
        ([X, Y], [1, 0], X),
        ([X, Y], [3e200, -4e200], [0.6, -0.8, 0]),
        ([X, Y], [1e308, 1e308], [0.5**0.5, 0.5**0.5, 0]),
        ([X, Y], [1, 1e200], Y),
        ([X, Y], [3e-320, 4e-320], [0.6, 0.8, 0]),
    ],
)
def test_sums(vectors, weights, expected):
    fused = fuse(np.stack(vectors), np.array(weights))
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, expected, atol=1e-6)


def test_slerp_divides_the_arc_where_a_sum_divides_the_chord():
    pair = np.stack([at(0), at(120)])
    np.testing.assert_allclose(fuse(pair, np.array([1, 1]), "slerp"), at(60), atol=1e-6)
    np.testing.assert_allclose(fuse(pair, np.array([3, 1]), "slerp"), at(30), atol=1e-6)
    np.testing.assert_allclose(fuse(pair, np.array([1, 0]), "slerp"), at(0), atol=1e-6)
    summed = fuse(pair, np.array([3, 1]))
    np.testing.assert_allclose(summed, at(np.degrees(np.arctan2(np.sqrt(3) / 2, 2.5))), atol=1e-6)  # 19.1


def test_slerp_by_the_ratio_of_weights_however_large():
    pair = np.stack([at(0), at(120)])
    np.testing.assert_allclose(fuse(pair, np.array([3e200, 1e200]), "slerp"), at(30), atol=1e-6)
    np.testing.assert_allclose(fuse(pair, np.array([1e308, 1e308]), "slerp"), at(60), atol=1e-6)


def test_slerp_of_three_knows_no_order():
    weights, order = np.array([0.2, 0.5, 0.3]), [2, 0, 1]
    corners = np.stack([X, Y, Z])
    mean = fuse(corners, weights, "slerp")
    np.testing.assert_allclose(mean, fuse(corners[order], weights[order], "slerp"), atol=1e-6)
    np.testing.assert_allclose(fuse(corners, np.ones(3), "slerp"), np.full(3, 3**-0.5), atol=1e-6)
    on_circle = np.stack([at(0), at(30), at(90)])  # arcs balance where the mean of the angles is
    np.testing.assert_allclose(fuse(on_circle, np.ones(3), "slerp"), at(40), atol=1e-6)


def test_products_keep_signs_and_take_weights_as_powers():
    pair = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0]], np.float32)
    np.testing.assert_allclose(fuse(pair, np.ones(2), "product"), [0.5**0.5, -(0.5**0.5), 0], atol=1e-6)
    expected = np.array([0.36 * 0.8, -0.64 * 0.6, 0])
    np.testing.assert_allclose(fuse(pair, np.array([2, 1]), "product"), expected / np.linalg.norm(expected), atol=1e-6)


def test_a_product_leaves_out_what_weighs_nothing():
    pair = np.array([[0.6, 0.8, 0], [-0.6, -0.8, 0]], np.float32)
    np.testing.assert_allclose(fuse(pair, np.array([1, 0]), "product"), [0.6, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(fuse(np.stack([X, Y]), np.array([0, 2]), "product"), Y, atol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "weights", "how", "said"),
    [
        ([X, X], [1, -1], "sum", "cancel each other out"),
        ([X, -X], [1, 1], "slerp", "cancel each other out"),
        ([X, at(0.03)], [1, -1], "sum", "cancel each other out"),  # rounding to float16 turns a vector as far
        ([X, Y], [0, 0], "sum", "cancel each other out"),
        ([X, Y], [0, 0], "product", "cancel each other out"),
        ([X, -X], [1e200, 1e200], "slerp", "cancel each other out"),
        ([at(45), at(45)], [1e200, 1], "product", "multiply to nothing. Give them smaller weights"),
        ([X, Y], [1, -1], "product", "A product cannot subtract"),
        ([X, Y], [1, -1], "slerp", "A slerp cannot subtract"),
        ([X, Y], [1, 1], "product", "multiply to nothing"),
        ([X, Y], [1, 1], "max", "There is no fusion 'max'; choose one of sum, product, slerp"),
    ],
)
def test_refused(vectors, weights, how, said):
    with pytest.raises(QueryError, match=said):
        fuse(np.stack(vectors), np.array(weights), how)


def test_what_is_only_close_is_no_cancelling():
    np.testing.assert_allclose(fuse(np.stack([X, at(1)]), np.array([1, -1])), at(-89.5), atol=1e-4)
