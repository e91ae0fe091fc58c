import csv
import math
from pathlib import Path

import numpy as np
import pytest

from retrieval.metrics import first_relevant_ranks, hit_rate_at_k, mean_reciprocal_rank, median_rank, recall_at_k

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "clip-golden"

# Three directions in the plane; with the query (1, 0) documents score 1.0, 0.6, 0.0.
EAST, NEAR_EAST, NORTH = [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]


def vectors(*rows):
    return np.array(rows, dtype=np.float32)


def ranks_by_sorting(queries, documents, relevant):
    """The definition read aloud: sort everything, find the first relevant row."""
    scores = queries @ documents.T
    rows = np.arange(len(documents))
    ranks = []
    for query, wanted in enumerate(relevant):
        order = np.lexsort((rows, -scores[query]))
        ranks.append(next((place for place, row in enumerate(order, 1) if row in wanted), 0))
    return ranks


class TestFirstRelevantRanks:
    def test_one_to_one(self):
        ranks = first_relevant_ranks(vectors(EAST, EAST, EAST), vectors(EAST, NEAR_EAST, NORTH), [[0], [1], [2]])
        assert ranks.dtype == np.int64
        assert ranks.tolist() == [1, 2, 3]

    def test_one_to_five_takes_the_best_placed(self):
        captions = vectors(NORTH, NORTH, NEAR_EAST, NORTH, [-1.0, 0.0], EAST, [0.8, 0.6], NORTH, NORTH, NORTH)
        ranks = first_relevant_ranks(vectors(EAST, EAST), captions, [np.arange(5), np.arange(5, 10)])
        # Scores from the top: row 5 (1.0), row 6 (0.8), row 2 (0.6); image 0 owns rows 0..4.
        assert ranks.tolist() == [3, 1]

    def test_among_equal_scores_the_lower_row_comes_first(self):
        documents = vectors(NORTH, EAST, EAST, EAST)
        ranks = first_relevant_ranks(vectors(EAST, EAST, EAST), documents, [[1], [2], [3]])
        assert ranks.tolist() == [1, 2, 3]

    def test_of_tied_relevant_documents_the_lowest_row_counts(self):
        documents = vectors(EAST, EAST, EAST, EAST)
        assert first_relevant_ranks(vectors(EAST), documents, [[3, 1, 2]]).tolist() == [2]

    def test_an_encoder_that_says_the_same_of_everything_is_not_perfect(self):
        same = vectors(*[EAST] * 10)
        assert hit_rate_at_k(first_relevant_ranks(same, same, [[row] for row in range(10)]), 1) == 0.1

    def test_nothing_relevant_is_rank_0(self):
        ranks = first_relevant_ranks(vectors(EAST, EAST), vectors(NORTH, EAST), [[], [0]])
        assert ranks.tolist() == [0, 2]

    def test_no_queries_and_no_documents(self):
        nothing = np.empty((0, 2), dtype=np.float32)
        assert first_relevant_ranks(nothing, vectors(EAST), []).shape == (0,)
        assert first_relevant_ranks(vectors(EAST), nothing, [[]]).tolist() == [0]

    @pytest.mark.parametrize("block", [None, 1, 7, 64])
    @pytest.mark.parametrize("seed", range(4))
    def test_agrees_with_a_full_sort_under_many_ties(self, seed, block):
        generator = np.random.default_rng(seed)
        # Small integers: products are exact in float32, so ties are ties in every block size.
        queries = generator.integers(-2, 3, (40, 3)).astype(np.float32)
        documents = generator.integers(-2, 3, (150, 3)).astype(np.float32)
        relevant = [generator.choice(150, size=generator.integers(0, 6), replace=False) for _ in queries]
        ranks = first_relevant_ranks(queries, documents, relevant, block=block)
        assert ranks.tolist() == ranks_by_sorting(queries, documents, relevant)

    @pytest.mark.parametrize("block", [1, 16, 33])
    def test_agrees_with_a_full_sort_on_unit_vectors(self, block):
        generator = np.random.default_rng(0)
        queries, documents = generator.standard_normal((33, 64)), generator.standard_normal((500, 64))
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        documents = (documents / np.linalg.norm(documents, axis=1, keepdims=True)).astype(np.float32)
        relevant = [generator.choice(500, size=5, replace=False) for _ in queries]
        ranks = first_relevant_ranks(queries, documents, relevant, block=block)
        assert ranks.tolist() == ranks_by_sorting(queries, documents, relevant)

    def test_the_default_block_bounds_the_scores_held(self, monkeypatch):
        monkeypatch.setattr("retrieval.metrics.SCORE_BLOCK_BYTES", 4 * 3 * 2)  # two queries of three scores
        documents = vectors(EAST, NEAR_EAST, NORTH)
        assert first_relevant_ranks(vectors(*[EAST] * 5), documents, [[2]] * 5).tolist() == [3] * 5
        monkeypatch.setattr("retrieval.metrics.SCORE_BLOCK_BYTES", 1)  # still one query at a time
        assert first_relevant_ranks(vectors(*[EAST] * 5), documents, [[1]] * 5).tolist() == [2] * 5

    @pytest.mark.parametrize("poison", [np.nan, np.inf])
    def test_vectors_that_are_not_finite_are_refused(self, poison):
        with pytest.raises(ValueError, match="query 1 has nan or infinite scores"):
            first_relevant_ranks(vectors(EAST, [poison, 0.0]), vectors(EAST, NORTH), [[0], [0]])

    def test_shapes_that_disagree_are_refused(self):
        with pytest.raises(ValueError, match=r"\(1, 2\) and documents \(1, 3\)"):
            first_relevant_ranks(vectors(EAST), np.ones((1, 3), dtype=np.float32), [[0]])
        with pytest.raises(ValueError, match="1 queries need as many .* not 2"):
            first_relevant_ranks(vectors(EAST), vectors(EAST), [[0], [0]])

    def test_rows_that_do_not_exist_are_refused(self):
        with pytest.raises(ValueError, match="relevant row 2; there are 2 documents"):
            first_relevant_ranks(vectors(EAST), vectors(EAST, NORTH), [[0, 2]])
        with pytest.raises(ValueError, match="relevant row -1; rows start at 0"):
            first_relevant_ranks(vectors(EAST), vectors(EAST, NORTH), [[-1]])

    def test_a_mask_is_not_rows(self):
        with pytest.raises(ValueError, match="must be integers, not bool"):
            first_relevant_ranks(vectors(EAST), vectors(EAST, NORTH), [np.array([False, True])])

    def test_block_must_be_positive(self):
        with pytest.raises(ValueError, match="block must be at least 1, not 0"):
            first_relevant_ranks(vectors(EAST), vectors(EAST), [[0]], block=0)


class TestRankMetrics:
    RANKS = np.array([1, 3, 0, 10, 2])  # the third query has nothing relevant

    def test_hit_rate(self):
        assert [hit_rate_at_k(self.RANKS, k) for k in (1, 2, 3, 9, 10)] == [0.25, 0.5, 0.75, 0.75, 1.0]

    def test_mean_reciprocal_rank(self):
        assert mean_reciprocal_rank(self.RANKS) == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 2) / 4, abs=1e-15)

    def test_median_rank(self):
        assert median_rank(self.RANKS) == 2.5
        assert median_rank([1, 7, 3]) == 3.0

    @pytest.mark.parametrize("ranks", [[], [0, 0]])
    def test_without_answerable_queries_everything_is_nan(self, ranks):
        assert math.isnan(hit_rate_at_k(ranks, 5))
        assert math.isnan(mean_reciprocal_rank(ranks))
        assert math.isnan(median_rank(ranks))

    def test_k_must_be_positive(self):
        with pytest.raises(ValueError, match="k must be at least 1, not 0"):
            hit_rate_at_k(self.RANKS, 0)


class TestRecall:
    RETRIEVED = np.array([[4, 2, 9], [1, 0, -1], [5, 6, 7], [8, 8, 8]])

    def test_counts_the_relevant_found(self):
        relevant = [[2, 4, 5, 6], [0], [], [8, 3]]
        # k=1: 1/4, 0/1, left out, 1/2.  k=2: 2/4, 1/1, left out, 1/2 (row 8 twice is one document).
        assert recall_at_k(self.RETRIEVED, relevant, 1) == pytest.approx(0.25)
        assert recall_at_k(self.RETRIEVED, relevant, 2) == pytest.approx(2 / 3)
        assert recall_at_k(self.RETRIEVED, relevant, 3) == pytest.approx(2 / 3)

    def test_differs_from_hit_rate_with_five_captions(self):
        retrieved, relevant = np.array([[0, 1, 7, 8, 9]]), [np.arange(5)]
        assert recall_at_k(retrieved, relevant, 5) == pytest.approx(0.4)
        assert hit_rate_at_k([1], 5) == 1.0

    def test_a_relevant_row_named_twice_counts_once(self):
        assert recall_at_k(np.array([[1, 2]]), [[1, 1, 5]], 2) == 0.5

    def test_nothing_relevant_anywhere_is_nan(self):
        assert math.isnan(recall_at_k(self.RETRIEVED, [[], [], [], []], 3))

    def test_k_beyond_the_columns_is_refused(self):
        with pytest.raises(ValueError, match=r"recall at 4 needs .* m >= 4, not \(4, 3\)"):
            recall_at_k(self.RETRIEVED, [[0]] * 4, 4)
        with pytest.raises(ValueError, match="k must be at least 1"):
            recall_at_k(self.RETRIEVED, [[0]] * 4, 0)

    def test_padding_is_never_relevant(self):
        with pytest.raises(ValueError, match="relevant row -1"):
            recall_at_k(self.RETRIEVED, [[0], [-1], [0], [0]], 3)

    def test_one_sequence_a_query(self):
        with pytest.raises(ValueError, match="4 queries need as many"):
            recall_at_k(self.RETRIEVED, [[0]], 1)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden CLIP vectors are not at {GOLDEN}")
class TestGolden:
    """Published CLIP ViT-B/32 vectors of 100 photos with 5 captions each."""

    @pytest.fixture
    def vectors_and_owners(self):
        with open(GOLDEN / "metadata.csv", encoding="utf-8", newline="") as lines:
            names = [row["image_id"] for row in csv.DictReader(lines)]
        distinct = list(dict.fromkeys(names))
        first_rows = [names.index(name) for name in distinct]
        images = np.load(GOLDEN / "image_embeddings.npy")[first_rows]
        captions = np.load(GOLDEN / "text_embeddings.npy")
        assert images.shape == (100, 512) and captions.shape == (500, 512)
        return images, captions, np.array([distinct.index(name) for name in names])

    def test_text_to_image(self, vectors_and_owners):
        images, captions, owners = vectors_and_owners
        ranks = first_relevant_ranks(captions, images, owners[:, None])
        assert [hit_rate_at_k(ranks, k) for k in (1, 5, 10)] == [0.832, 0.990, 0.998]

    def test_image_to_text(self, vectors_and_owners):
        images, captions, owners = vectors_and_owners
        relevant = [np.flatnonzero(owners == image) for image in range(100)]
        ranks = first_relevant_ranks(images, captions, relevant)
        assert [hit_rate_at_k(ranks, k) for k in (1, 5, 10)] == [0.93, 1.00, 1.00]
