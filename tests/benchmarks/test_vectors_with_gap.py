import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap


@pytest.fixture(scope="module")
def made():
    return vectors_with_gap(3000, 200, 128, rank=16, clusters=50, seed=3)


def test_shapes_types_and_unit_rows(made):
    assert (made.documents.shape, made.queries.shape, made.origin.shape) == ((3000, 128), (200, 128), (200,))
    assert made.documents.dtype == made.queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made.documents, axis=1), 1, atol=1e-5)
    assert (made.images.shape, made.images.dtype) == ((200, 128), np.float32)
    for queries in (made.queries, made.images):
        np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


def test_the_seed_decides(made):
    again, other = (vectors_with_gap(3000, 200, 128, rank=16, clusters=50, seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(again.documents, made.documents)
    np.testing.assert_array_equal(again.queries, made.queries)
    np.testing.assert_array_equal(again.images, made.images)
    assert np.abs(other.documents - made.documents).mean() > 0.01


def test_queries_lie_in_a_cone_of_their_own(made):
    """Shifts of length 0.8 on meanings of length 1, noise 0.15: 0.8^2 / (1 + 0.8^2 + 0.15^2) = 0.385."""
    shift_image, shift_text = made.documents.mean(axis=0), made.queries.mean(axis=0)
    within = made.documents[:1000] @ made.documents[1000:2000].T
    assert within.mean() == pytest.approx(0.385, abs=0.03)
    assert (made.queries @ made.documents.T).mean() == pytest.approx(0, abs=0.03)
    cosine = shift_image @ shift_text / np.linalg.norm(shift_image) / np.linalg.norm(shift_text)
    assert abs(cosine) < 0.1


def test_image_like_queries_lie_in_the_documents_cone_and_are_none_of_them(made):
    scores = made.images @ made.documents.T
    assert scores.mean() == pytest.approx(0.385, abs=0.03)
    assert 0.7 < np.median(scores.max(axis=1)) and scores.max() < 0.99


def test_meanings_have_few_dimensions(made):
    """16 for the meaning and 1 for the shift hold all but the noise: 1 - 0.15^2 / 1.6625 = 0.986."""
    energy = np.linalg.svd(made.documents, compute_uv=False) ** 2
    assert energy[:17].sum() / energy.sum() == pytest.approx(0.986, abs=0.005)
    assert energy[:12].sum() / energy.sum() < 0.97


def test_a_query_is_about_its_document(made):
    scores = made.queries @ made.documents.T  # (q, n)
    own = scores[np.arange(200), made.origin]
    assert np.median((scores > own[:, None]).sum(axis=1)) < 5
    assert own.max() < 0.7  # and yet no query is among the documents


def test_a_rank_without_room_for_the_shifts_is_refused():
    with pytest.raises(ValueError, match="rank 31 leaves no room"):
        vectors_with_gap(10, 2, 32, rank=31)
