import numpy as np
import pytest

from retrieval import bootstrap
from retrieval.bootstrap import mean_intervals, median_interval, percentile_interval, resampled_means

NAN = np.nan


class TestResampledMeans:
    def test_constant_values_have_one_mean(self):
        assert resampled_means([0.25] * 8, resamples=50).tolist() == [0.25] * 50

    def test_one_cluster_is_drawn_whole(self):
        means = resampled_means([1, 2, 6], clusters=[4, 4, 4], resamples=50)
        assert means.tolist() == [3.0] * 50

    def test_two_clusters_make_three_means(self):
        # Both drawn: (0 + 0 + 3) / 3; one of them twice: 0 or 3. Odds are 1/2, 1/4, 1/4.
        means = resampled_means([0, 0, 3], clusters=[7, 7, 2], resamples=4000)
        values, counts = np.unique(means, return_counts=True)
        assert values.tolist() == [0, 1, 3]
        assert (counts / 4000).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.03)

    def test_columns_are_drawn_together(self):
        values = np.random.default_rng(0).random((30, 3))
        together = resampled_means(values, resamples=40, seed=5)
        assert together.shape == (40, 3)
        for column in range(3):
            alone = resampled_means(values[:, column], resamples=40, seed=5)
            np.testing.assert_allclose(together[:, column], alone, atol=1e-12)

    def test_the_same_seed_draws_the_same_clusters(self):
        values, clusters = np.random.default_rng(0).random(60), np.repeat(np.arange(20), 3)
        first = resampled_means(values, clusters=clusters, resamples=30, seed=1)
        assert resampled_means(values, clusters=clusters, resamples=30, seed=1).tolist() == first.tolist()
        assert resampled_means(values, clusters=clusters, resamples=30, seed=2).tolist() != first.tolist()

    def test_differences_are_paired(self):
        ours, theirs = np.random.default_rng(0).random((2, 60))
        clusters = np.repeat(np.arange(20), 3)
        of_each = [resampled_means(one, clusters=clusters, resamples=30) for one in (ours, theirs)]
        of_difference = resampled_means(ours - theirs, clusters=clusters, resamples=30)
        np.testing.assert_allclose(of_each[0] - of_each[1], of_difference, atol=1e-12)

    def test_clusters_need_not_be_counted_from_nought_nor_stand_together(self):
        values = np.arange(6.0)
        tidy = resampled_means(values, clusters=[0, 1, 0, 2, 1, 2], resamples=30)
        assert resampled_means(values, clusters=[5, 40, 5, 41, 40, 41], resamples=30).tolist() == tidy.tolist()

    def test_unknown_values_are_left_out(self):
        means = resampled_means([[0.5, NAN], [NAN, NAN], [0.5, 2.0]], resamples=4000)
        assert set(means[~np.isnan(means)[:, 0], 0]) == {0.5}
        assert set(means[~np.isnan(means)[:, 1], 1]) == {2.0}
        # Nothing to average where only the second query was drawn: 1 in 27; without the third: 8 in 27.
        assert np.isnan(means).mean(axis=0).tolist() == pytest.approx([1 / 27, 8 / 27], abs=0.02)

    def test_what_is_held_in_memory_does_not_matter(self, monkeypatch):
        values, clusters = np.random.default_rng(0).random(60), np.repeat(np.arange(20), 3)
        whole = resampled_means(values, clusters=clusters, resamples=31)
        middle = median_interval(values, clusters=clusters, resamples=31)
        for numbers in (1, 20 * 4, 60 * 3):
            monkeypatch.setattr(bootstrap, "_DRAWS_IN_MEMORY", numbers)
            np.testing.assert_allclose(resampled_means(values, clusters=clusters, resamples=31), whole, atol=1e-12)
            assert median_interval(values, clusters=clusters, resamples=31).tolist() == middle.tolist()

    @pytest.mark.parametrize("interval", [resampled_means, mean_intervals, median_interval])
    def test_what_is_refused(self, interval):
        with pytest.raises(ValueError, match="there are no queries to resample"):
            interval([])
        with pytest.raises(ValueError, match=r"3 queries need as many clusters, not \(2,\)"):
            interval([1, 2, 3], clusters=[0, 1])


class TestIntervals:
    def test_percentiles(self):
        drawn = np.arange(101.0)
        assert percentile_interval(drawn).tolist() == pytest.approx([2.5, 97.5])
        assert percentile_interval(drawn, level=0.5).tolist() == [25, 75]
        assert percentile_interval(np.stack([drawn, -drawn], axis=1), level=0.5).tolist() == [[25, 75], [-75, -25]]

    def test_what_was_never_known_stays_unknown(self):
        drawn = np.array([[1.0, NAN], [NAN, NAN], [3.0, NAN]])
        found = percentile_interval(drawn, level=0.5)
        assert found[0].tolist() == [1.5, 2.5] and np.isnan(found[1]).all()
        assert np.isnan(percentile_interval(np.full(4, NAN))).tolist() == [True, True]

    def test_a_mean_lies_within(self):
        values = np.random.default_rng(3).random(100)
        low, high = mean_intervals(values)
        # The normal approximation, which is good for a mean of 100.
        margin = 1.96 * values.std() / 10
        assert [low, high] == pytest.approx([values.mean() - margin, values.mean() + margin], abs=0.006)

    def test_the_level(self):
        values = np.random.default_rng(3).random(100)
        wide, narrow = mean_intervals(values, level=0.99), mean_intervals(values, level=0.5)
        assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]

    def test_columns(self):
        values = np.random.default_rng(3).random((50, 2))
        both = mean_intervals(values)
        assert both.shape == (2, 2)
        np.testing.assert_allclose(both[1], mean_intervals(values[:, 1]), atol=1e-12)

    def test_nineteen_of_nineteen_are_not_certain(self):
        """Clopper and Pearson: the lowest chance of which 19 hits of 19 are no 1-in-40 luck."""
        low, high = mean_intervals(np.ones(19))
        assert high == 1
        assert low == pytest.approx(0.8235, abs=5e-5)
        assert low**19 == pytest.approx(0.025)
        assert mean_intervals(np.zeros(19)).tolist() == [0, pytest.approx(1 - 0.8235, abs=5e-5)]
        assert mean_intervals(np.ones(19), level=0.9)[0] ** 19 == pytest.approx(0.05)

    def test_certainty_counts_clusters(self):
        clusters = np.repeat(np.arange(19), 5)
        low, _ = mean_intervals(np.ones(95), clusters=clusters)
        assert low**19 == pytest.approx(0.025)
        values = np.where(clusters < 4, 1.0, NAN)
        assert mean_intervals(values, clusters=clusters)[0] ** 4 == pytest.approx(0.025)

    def test_one_query(self):
        assert mean_intervals([1.0]).tolist() == [pytest.approx(0.025), 1]

    def test_of_nothing_known(self):
        found = mean_intervals(np.array([[1.0, NAN], [0.0, NAN]]))
        assert found[0].tolist() == [0, 1] and np.isnan(found[1]).all()
        assert np.isnan(median_interval([NAN, NAN])).tolist() == [True, True]


class TestMedian:
    def test_constant_values(self):
        assert median_interval([3.0] * 9, resamples=50).tolist() == [3, 3]

    def test_one_cluster_has_one_median(self):
        assert median_interval([9, 1, 4], clusters=[0, 0, 0], resamples=20).tolist() == [4, 4]
        assert median_interval([9, 1, 4, 5], clusters=[0] * 4, resamples=20).tolist() == [4.5, 4.5]
        assert median_interval([9, NAN, 1, 4], clusters=[0] * 4, resamples=20).tolist() == [4, 4]

    def test_agrees_with_medians_of_drawn_values(self):
        generator = np.random.default_rng(4)
        values, clusters = generator.integers(1, 30, 45).astype(float), np.repeat(np.arange(15), 3)
        draws = np.concatenate(list(bootstrap._draws(15, 60, 8))).astype(int)
        drawn = [np.median(np.repeat(values, times[clusters])) for times in draws]
        expected = np.percentile(drawn, [2.5, 97.5]).tolist()
        assert median_interval(values, clusters=clusters, resamples=60, seed=8).tolist() == expected

    def test_ranks_that_were_not_found(self):
        low, high = median_interval([1.0, 2.0, 3.0, np.inf, 1.0], clusters=[0] * 5, resamples=20)
        assert (low, high) == (2, 2)


class TestCoverage:
    """Simulated data sets of known truth: how often does the 95 % interval contain it?"""

    IMAGES, CAPTIONS = 200, 5
    OWNERS = np.repeat(np.arange(IMAGES), CAPTIONS)

    def covered(self, interval_of_data_set, truth, data_sets):
        inside = 0
        for number in range(data_sets):
            low, high = interval_of_data_set(np.random.default_rng([1, number]), number)
            inside += low <= truth <= high
        return inside / data_sets

    def hits(self, generator):
        """Every image has a chance of its own, shared by its captions: half the variance is between images."""
        chance = generator.beta(0.5, 0.5, (self.IMAGES, 1))
        return (generator.random((self.IMAGES, self.CAPTIONS)) < chance).ravel()

    def test_drawing_images(self):
        def interval(generator, seed):
            return mean_intervals(self.hits(generator), clusters=self.OWNERS, resamples=300, seed=seed)

        assert 0.92 <= self.covered(interval, 0.5, data_sets=400) <= 0.975

    def test_drawing_captions_one_by_one_would_promise_too_much(self):
        def interval(generator, seed):
            return mean_intervals(self.hits(generator), resamples=200, seed=seed)

        assert self.covered(interval, 0.5, data_sets=200) < 0.9

    def test_paired_differences(self):
        """A model that finds what the other finds, and 4 in 100 more: pairing sees it, and is right of it."""
        widths = []

        def interval(generator, seed):
            chance = generator.uniform(0.1, 0.9, (self.IMAGES, 1))
            luck = generator.random((self.IMAGES, self.CAPTIONS))
            worse, better = ((luck < chance + more).ravel().astype(float) for more in (0, 0.04))
            options = {"clusters": self.OWNERS, "resamples": 200}
            paired = resampled_means(better - worse, **options, seed=seed)
            apart = resampled_means(better, **options, seed=seed) - resampled_means(worse, **options, seed=seed + 1)
            widths.append([np.diff(percentile_interval(drawn)).item() for drawn in (paired, apart)])
            return percentile_interval(paired)

        assert 0.92 <= self.covered(interval, 0.04, data_sets=300) <= 0.975
        paired, apart = np.mean(widths, axis=0)
        assert paired < apart / 3

    def test_medians(self):
        def interval(generator, seed):
            values = generator.standard_normal((self.IMAGES, 1)) + generator.standard_normal((self.IMAGES, 5))
            return median_interval(values.ravel(), clusters=self.OWNERS, resamples=300, seed=seed)

        assert 0.92 <= self.covered(interval, 0.0, data_sets=400) <= 0.975
