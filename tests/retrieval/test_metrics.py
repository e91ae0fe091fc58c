import math

import numpy as np
import pytest

from retrieval import metrics
from retrieval.metrics import (
    SORTED_FROM, UNRANKED, Relevance, RelevantRanks, average_precision, f1, first_rank, hit_rate, ndcg, precision,
    ranks_in_results, recall, reciprocal_rank, relevant_ranks,
)

# Three directions in the plane; with the query (1, 0) documents score 1.0, 0.6, 0.0.
EAST, NEAR_EAST, NORTH = [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]
AT_K = [hit_rate, recall, precision, f1, ndcg]
OVERALL = [reciprocal_rank, average_precision, first_rank]


def vectors(*rows):
    return np.array(rows, dtype=np.float32)


def ranked(*queries, grades=None):
    """Relevant documents at these ranks, one list a query."""
    counts = [len(query) for query in queries]
    rows = np.concatenate([np.arange(count) for count in counts]).astype(np.int64)
    places = np.array([rank for query in queries for rank in query], np.int64)
    grades = np.ones(len(rows), np.float32) if grades is None else np.array(grades, np.float32)
    return RelevantRanks(Relevance(np.concatenate([[0], np.cumsum(counts)]), rows, grades), places)


def ranks_by_sorting(queries, documents, relevant):
    """The definition read aloud: sort everything, look every relevant row up."""
    scores = queries @ documents.T
    rows = np.arange(len(documents))
    ranks = []
    for query, wanted in enumerate(relevant):
        order = np.lexsort((rows, -scores[query])).tolist()
        ranks += [order.index(row) + 1 for row in sorted(wanted)]
    return ranks


class TestRelevance:
    def test_from_pairs_in_any_order(self):
        found = Relevance.from_pairs([2, 0, 2, 0], [7, 3, 1, 9], [1, 2, 3, 0.5], n_queries=4)
        assert found.starts.tolist() == [0, 2, 2, 4, 4]
        assert found.rows.tolist() == [3, 9, 1, 7]
        assert found.grades.tolist() == [2, 0.5, 3, 1]
        assert found.counts.tolist() == [2, 0, 2, 0]
        assert found.queries.tolist() == [0, 0, 2, 2]
        assert len(found) == 4

    def test_of_equal_pairs_the_highest_grade_stays(self):
        found = Relevance.from_pairs([0, 0, 0, 1], [5, 5, 5, 5], [1, 3, 0, 2], n_queries=2)
        assert (found.rows.tolist(), found.grades.tolist()) == ([5, 5], [3, 2])

    def test_grades_of_nothing_are_judgements_of_not_relevant(self):
        found = Relevance.from_pairs([0, 0, 1], [1, 2, 3], [0, 1, -1], n_queries=2)
        assert (found.rows.tolist(), found.counts.tolist()) == ([2], [1, 0])

    def test_from_lists(self):
        found = Relevance.from_lists([[4, 1], [], [2, 2]])
        assert (found.rows.tolist(), found.counts.tolist(), found.grades.tolist()) == ([1, 4, 2], [2, 0, 1], [1, 1, 1])

    def test_no_queries_and_no_documents(self):
        assert len(Relevance.from_lists([])) == 0
        assert Relevance.from_lists([[], []]).starts.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("queries", "rows", "grades", "complaint"),
        [
            ([0], [1, 2], None, "1 queries, 2 rows and 2 grades must be as many"),
            ([0, 2], [1, 1], None, r"queries of relevant pairs must be in 0\.\.1"),
            ([-1], [1], None, r"queries of relevant pairs must be in 0\.\.1"),
            ([0], [-1], None, "relevant row -1: rows start at 0"),
            ([0], [1], [math.nan], "a grade is nan"),
            ([0], [1.0], None, "relevant rows must be integers, not float64"),
            ([True], [1], None, "queries must be integers, not bool"),
        ],
    )
    def test_what_is_refused(self, queries, rows, grades, complaint):
        with pytest.raises(ValueError, match=complaint):
            Relevance.from_pairs(queries, rows, grades, n_queries=2)

    def test_a_mask_is_not_rows(self):
        with pytest.raises(ValueError, match="relevant rows of query 1 must be integers, not bool"):
            Relevance.from_lists([[0], np.array([False, True])])


class TestRelevantRanks:
    def ranks(self, queries, documents, relevant, **options):
        return relevant_ranks(queries, documents, Relevance.from_lists(relevant), **options).ranks.tolist()

    def test_one_to_one(self):
        documents = vectors(EAST, NEAR_EAST, NORTH)
        assert self.ranks(vectors(EAST, EAST, EAST), documents, [[0], [1], [2]]) == [1, 2, 3]

    def test_one_to_five(self):
        captions = vectors(NORTH, NORTH, NEAR_EAST, NORTH, [-1.0, 0.0], EAST, [0.8, 0.6], NORTH, NORTH, NORTH)
        found = relevant_ranks(vectors(EAST, EAST), captions, Relevance.from_lists([np.arange(5), np.arange(5, 10)]))
        # From the top: row 5 (1.0), 6 (0.8), 2 (0.6), then 0 1 3 7 8 9 (0.0) by row, and row 4 (-1.0).
        assert found.ranks.tolist() == [4, 5, 3, 6, 10, 1, 2, 7, 8, 9]
        assert found.first.tolist() == [3, 1]
        assert found.answerable.tolist() == [True, True]

    @pytest.mark.parametrize("n", [2, 3, 14, 15, 33, 100])
    def test_copies_of_a_document_rank_in_their_order(self, n):
        """Whatever the last bits of a product: the last of n copies is behind all the others."""
        random = np.random.default_rng(n)
        documents = np.repeat(random.standard_normal((1, 512)).astype(np.float32), n, axis=0)
        queries = random.standard_normal((30, 512)).astype(np.float32)
        ranks = relevant_ranks(queries, documents, Relevance.from_lists([[n - 1]] * 30)).ranks
        assert ranks.tolist() == [n] * 30
        assert metrics.first_alike(documents).tolist() == [0] * n

    def test_among_equal_scores_the_lower_row_comes_first(self):
        documents = vectors(NORTH, EAST, EAST, EAST, NEAR_EAST)
        assert self.ranks(vectors(*[EAST] * 4), documents, [[1], [2], [3], [4]]) == [1, 2, 3, 4]

    def test_an_encoder_that_says_the_same_of_everything_is_not_perfect(self):
        same = vectors(*[EAST] * 10)
        found = relevant_ranks(same, same, Relevance.from_lists([[row] for row in range(10)]))
        assert hit_rate(found, 1).mean() == 0.1

    def test_all_relevant(self):
        assert self.ranks(vectors(EAST), vectors(NORTH, EAST, NEAR_EAST), [[0, 1, 2]]) == [3, 1, 2]

    def test_nothing_relevant(self):
        found = relevant_ranks(vectors(EAST, EAST), vectors(NORTH, EAST), Relevance.from_lists([[], [0]]))
        assert (found.ranks.tolist(), found.first.tolist()) == ([2], [UNRANKED, 2])
        assert found.answerable.tolist() == [False, True]

    def test_no_queries_and_no_documents(self):
        nothing = np.empty((0, 2), dtype=np.float32)
        assert len(relevant_ranks(nothing, vectors(EAST), Relevance.from_lists([]))) == 0
        assert relevant_ranks(vectors(EAST), nothing, Relevance.from_lists([[]])).first.tolist() == [UNRANKED]

    @pytest.mark.parametrize("block", [None, 1, 7, 64])
    @pytest.mark.parametrize("seed", range(4))
    def test_agrees_with_a_full_sort_under_many_ties(self, seed, block):
        generator = np.random.default_rng(seed)
        # Small integers: products are exact in float32, so ties are ties in every block size.
        queries = generator.integers(-2, 3, (40, 3)).astype(np.float32)
        documents = generator.integers(-2, 3, (150, 3)).astype(np.float32)
        relevant = [generator.choice(150, size=generator.integers(0, 6), replace=False) for _ in queries]
        assert self.ranks(queries, documents, relevant, block=block) == ranks_by_sorting(queries, documents, relevant)

    @pytest.mark.parametrize("block", [1, 16, 33])
    def test_agrees_with_a_full_sort_on_unit_vectors(self, block):
        generator = np.random.default_rng(0)
        queries, documents = generator.standard_normal((33, 64)), generator.standard_normal((500, 64))
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        documents = (documents / np.linalg.norm(documents, axis=1, keepdims=True)).astype(np.float32)
        relevant = [generator.choice(500, size=5, replace=False) for _ in queries]
        assert self.ranks(queries, documents, relevant, block=block) == ranks_by_sorting(queries, documents, relevant)

    @pytest.mark.parametrize("count", [SORTED_FROM - 1, SORTED_FROM, SORTED_FROM + 40])
    def test_many_relevant_documents(self, count, monkeypatch):
        """Sorting and counting are two ways to the same ranks, ties included."""
        generator = np.random.default_rng(count)
        queries = generator.integers(-2, 3, (6, 3)).astype(np.float32)
        documents = generator.integers(-2, 3, (200, 3)).astype(np.float32)
        relevant = [generator.choice(200, size=count, replace=False) for _ in queries]
        expected = ranks_by_sorting(queries, documents, relevant)
        assert self.ranks(queries, documents, relevant) == expected
        for switch in (1, 10**6):
            monkeypatch.setattr(metrics, "SORTED_FROM", switch)
            assert self.ranks(queries, documents, relevant) == expected

    def test_the_default_block_bounds_the_scores_held(self, monkeypatch):
        shapes = []
        isfinite = np.isfinite
        monkeypatch.setattr(np, "isfinite", lambda scores: shapes.append(scores.shape) or isfinite(scores))
        documents = vectors(EAST, NEAR_EAST, NORTH)
        monkeypatch.setattr(metrics, "SCORE_BLOCK_BYTES", 4 * 3 * 2)  # two queries of three scores
        assert self.ranks(vectors(*[EAST] * 5), documents, [[2]] * 5) == [3] * 5
        assert shapes == [(2, 3), (2, 3), (1, 3)]
        monkeypatch.setattr(metrics, "SCORE_BLOCK_BYTES", 1)  # still one query at a time
        assert self.ranks(vectors(*[EAST] * 5), documents, [[1]] * 5) == [2] * 5
        assert shapes[3:] == [(1, 3)] * 5

    @pytest.mark.parametrize("poison", [np.nan, np.inf])
    def test_vectors_that_are_not_finite_are_refused(self, poison):
        with pytest.raises(ValueError, match="query 1 has nan or infinite scores"):
            self.ranks(vectors(EAST, [poison, 0.0]), vectors(EAST, NORTH), [[0], [0]])
        with pytest.raises(ValueError, match="query 3 has nan or infinite scores"):
            self.ranks(vectors(EAST, EAST, EAST, [poison, 0.0]), vectors(EAST, NORTH), [[0]] * 4, block=2)
        with pytest.raises(ValueError, match="query 0 has nan or infinite scores"):
            self.ranks(vectors(EAST), vectors(EAST, [poison, 0.0]), [[0]])

    def test_shapes_that_disagree_are_refused(self):
        with pytest.raises(ValueError, match=r"\(1, 2\) and documents \(1, 3\)"):
            self.ranks(vectors(EAST), np.ones((1, 3), dtype=np.float32), [[0]])
        with pytest.raises(ValueError, match=r"\(2,\) and documents"):
            self.ranks(np.ones(2, np.float32), vectors(EAST), [[0]])
        with pytest.raises(ValueError, match="1 queries, but relevance for 2"):
            self.ranks(vectors(EAST), vectors(EAST), [[0], [0]])

    def test_rows_that_do_not_exist_are_refused(self):
        with pytest.raises(ValueError, match="relevant row 2; there are 2 documents"):
            self.ranks(vectors(EAST), vectors(EAST, NORTH), [[0, 2]])

    def test_block_must_be_positive(self):
        with pytest.raises(ValueError, match="block must be at least 1, not 0"):
            self.ranks(vectors(EAST), vectors(EAST), [[0]], block=0)


class TestRanksInResults:
    RESULTS = np.array([[4, 2, 9], [1, 0, -1], [5, 6, 7], [8, 8, 3], [-1, -1, -1]])

    def test_places_of_relevant_rows(self):
        found = ranks_in_results(self.RESULTS, Relevance.from_lists([[2, 4, 50], [0], [], [3, 8], [0]]))
        # Row 50 was not returned; row 8, returned twice, counts at its better place.
        assert found.ranks.tolist() == [2, 1, UNRANKED, 2, 3, 1, UNRANKED]
        assert found.first.tolist() == [1, 2, UNRANKED, 1, UNRANKED]

    def test_pads_are_never_found(self):
        found = ranks_in_results(np.array([[-1, -1]]), Relevance.from_lists([[0, 1]]))
        assert found.ranks.tolist() == [UNRANKED, UNRANKED]

    @pytest.mark.parametrize("shape", [(2, 0), (2, 3)])
    def test_nothing_returned_or_nothing_relevant(self, shape):
        assert ranks_in_results(np.full(shape, -1), Relevance.from_lists([[], []])).ranks.tolist() == []
        nothing = ranks_in_results(np.full((2, 0), -1), Relevance.from_lists([[3], []]))
        assert nothing.ranks.tolist() == [UNRANKED]

    def test_the_whole_ranking_gives_the_exact_ranks(self):
        generator = np.random.default_rng(1)
        queries = generator.integers(-2, 3, (30, 3)).astype(np.float32)
        documents = generator.integers(-2, 3, (80, 3)).astype(np.float32)
        relevance = Relevance.from_lists([generator.choice(80, size=size % 7, replace=False) for size in range(30)])
        order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")
        exact = relevant_ranks(queries, documents, relevance)
        assert ranks_in_results(order, relevance).ranks.tolist() == exact.ranks.tolist()
        cut = ranks_in_results(order[:, :10], relevance)
        assert cut.ranks.tolist() == [rank if rank <= 10 else UNRANKED for rank in exact.ranks.tolist()]
        for metric in AT_K:
            np.testing.assert_array_equal(metric(cut, 10), metric(exact, 10))

    @pytest.mark.parametrize("shape", [(3,), (1, 3)])
    def test_shapes_that_disagree_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"must be \(q, m\) with q = 2"):
            ranks_in_results(np.zeros(shape, np.int64), Relevance.from_lists([[0], [0]]))


class TestOneRelevantDocument:
    """As a caption has: recall is the hit rate, and AP the reciprocal rank."""

    RANKS = ranked([1], [3], [10])

    @pytest.mark.parametrize("metric", [hit_rate, recall])
    def test_hit_rate_and_recall(self, metric):
        assert [metric(self.RANKS, k).tolist() for k in (1, 2, 3, 10)] == [
            [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1],
        ]

    @pytest.mark.parametrize("metric", [reciprocal_rank, average_precision])
    def test_reciprocal_rank_and_average_precision(self, metric):
        assert metric(self.RANKS).tolist() == pytest.approx([1, 1 / 3, 1 / 10], abs=1e-15)

    def test_precision_and_f1(self):
        assert precision(self.RANKS, 5).tolist() == [0.2, 0.2, 0]
        assert f1(self.RANKS, 5).tolist() == pytest.approx([1 / 3, 1 / 3, 0])  # 2 x 0.2 x 1 / 1.2

    def test_ndcg(self):
        assert ndcg(self.RANKS, 5).tolist() == pytest.approx([1, 1 / 2, 0])  # 1 / log2(3 + 1)
        assert ndcg(self.RANKS, 10)[2] == pytest.approx(1 / math.log2(11))

    def test_first_rank(self):
        assert first_rank(self.RANKS).tolist() == [1, 3, 10]


class TestFiveRelevantDocuments:
    """As an image has captions; of the second query's five only one was retrieved."""

    RANKS = ranked([2, 9, 1, 30, 5], [7, UNRANKED, UNRANKED, UNRANKED, UNRANKED])

    def test_counts(self):
        assert hit_rate(self.RANKS, 5).tolist() == [1, 0]
        assert recall(self.RANKS, 5).tolist() == [0.6, 0]
        assert recall(self.RANKS, 10).tolist() == [0.8, 0.2]
        assert precision(self.RANKS, 5).tolist() == [0.6, 0]
        assert precision(self.RANKS, 10).tolist() == [0.4, 0.1]
        # 2 x 0.4 x 0.8 / (0.4 + 0.8), 2 x 0.1 x 0.2 / (0.1 + 0.2)
        assert f1(self.RANKS, 10).tolist() == pytest.approx([8 / 15, 2 / 15])

    def test_ranks(self):
        assert first_rank(self.RANKS).tolist() == [1, 7]
        assert reciprocal_rank(self.RANKS).tolist() == [1, 1 / 7]
        # Precisions at 1, 2, 5, 9 and 30.
        assert average_precision(self.RANKS).tolist() == pytest.approx(
            [(1 / 1 + 2 / 2 + 3 / 5 + 4 / 9 + 5 / 30) / 5, (1 / 7) / 5]
        )

    def test_ndcg(self):
        best = sum(1 / math.log2(rank + 1) for rank in range(1, 6))
        gained = 1 + 1 / math.log2(3) + 1 / math.log2(6) + 1 / math.log2(10)
        assert ndcg(self.RANKS, 10).tolist() == pytest.approx([gained / best, 1 / math.log2(8) / best])
        # At 3 no order does better than three relevant documents.
        best_of_three = 1 + 1 / math.log2(3) + 1 / 2
        assert ndcg(self.RANKS, 3)[0] == pytest.approx((1 + 1 / math.log2(3)) / best_of_three)

    def test_k_larger_than_the_number_of_documents(self):
        everything = ranked([1, 2, 3])
        assert hit_rate(everything, 100).tolist() == recall(everything, 100).tolist() == [1]
        assert precision(everything, 100).tolist() == [0.03]
        assert ndcg(everything, 100).tolist() == [1]


class TestGrades:
    def test_ndcg_weighs_by_grade(self):
        # Grade 1 at rank 1, grade 3 at rank 2, grade 2 not retrieved; the best order is 3, 2, 1.
        found = ranked([1, 2, UNRANKED], grades=[1, 3, 2])
        best = 3 + 2 / math.log2(3) + 1 / 2
        assert ndcg(found, 10).tolist() == pytest.approx([(1 + 3 / math.log2(3)) / best])
        assert ndcg(found, 1).tolist() == pytest.approx([1 / 3])
        assert ndcg(found, 2).tolist() == pytest.approx([(1 + 3 / math.log2(3)) / (3 + 2 / math.log2(3))])

    def test_the_gain_is_the_grade_itself(self):
        assert ndcg(ranked([2, 1], grades=[2, 1]), 2).tolist() == pytest.approx(
            [(1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))]
        )

    @pytest.mark.parametrize("metric", [hit_rate, recall, precision, f1])
    def test_the_others_ask_for_relevance_alone(self, metric):
        plain, graded = ranked([1, 4], [6]), ranked([1, 4], [6], grades=[0.5, 3, 2])
        np.testing.assert_array_equal(metric(plain, 5), metric(graded, 5))


class TestWithoutARightAnswer:
    RANKS = ranked([1], [], [2])

    @pytest.mark.parametrize("metric", AT_K)
    def test_at_k(self, metric):
        assert np.isnan(metric(self.RANKS, 5)).tolist() == [False, True, False]

    @pytest.mark.parametrize("metric", OVERALL)
    def test_overall(self, metric):
        assert np.isnan(metric(self.RANKS)).tolist() == [False, True, False]

    def test_not_retrieved_is_another_matter(self):
        missed = ranked([UNRANKED])
        assert [metric(missed, 5).tolist() for metric in AT_K] == [[0]] * len(AT_K)
        assert (reciprocal_rank(missed).tolist(), average_precision(missed).tolist()) == ([0], [0])
        assert first_rank(missed).tolist() == [math.inf]

    @pytest.mark.parametrize("metric", AT_K)
    @pytest.mark.parametrize("k", [0, -1])
    def test_k_must_be_positive(self, metric, k):
        with pytest.raises(ValueError, match=f"k must be at least 1, not {k}"):
            metric(self.RANKS, k)
