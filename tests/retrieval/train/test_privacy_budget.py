"""Epsilon is what Opacus counts, and the noise what a wished epsilon takes."""

import math
import sys

import pytest

from retrieval.errors import MissingPackageError, TrainingError
from retrieval.train.privacy_budget import MEANS_NOISE, PrivacySettings, budget, epsilon_of

opacus = pytest.importorskip("opacus")


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), [
    (1.1, 0.01, 1000, 1e-5), (0.8, 0.17, 180, 1e-4), (4.0, 1.0, 50, 1e-5),
])
def test_epsilon_is_what_opacus_counts(noise, rate, steps, delta):
    accountant = opacus.accountants.RDPAccountant()
    accountant.step(noise_multiplier=MEANS_NOISE * noise, sample_rate=1.0)
    for _ in range(steps):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    assert epsilon_of(noise, rate, steps, delta) == pytest.approx(accountant.get_epsilon(delta), rel=1e-9)


def test_epsilon_of_whole_batches_by_hand():
    """Without sampling the divergence of order a is a / (2 noise^2) a step; epsilon is the best order's."""
    steps, noise, delta = 50, 4.0, 1e-5
    by_order = [
        a * (steps + 1 / MEANS_NOISE**2) / (2 * noise**2)
        - (math.log(delta) + math.log(a)) / (a - 1) + math.log((a - 1) / a)
        for a in [1 + x / 10 for x in range(1, 100)]
    ]
    assert epsilon_of(noise, 1.0, steps, delta) == pytest.approx(min(by_order), rel=1e-9)


def test_more_noise_fewer_steps_and_smaller_shares_cost_less():
    cost = epsilon_of(1.0, 0.1, 100, 1e-5)
    assert epsilon_of(1.5, 0.1, 100, 1e-5) < cost and epsilon_of(1.0, 0.1, 50, 1e-5) < cost
    assert epsilon_of(1.0, 0.05, 100, 1e-5) < cost and epsilon_of(1.0, 0.1, 100, 1e-6) > cost
    assert epsilon_of(0.0, 0.1, 100, 1e-5) == math.inf


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_the_noise_follows_from_a_wished_epsilon(epsilon):
    spent = budget(6000, 1 / 6, 180, PrivacySettings(epsilon=epsilon))
    assert 0.98 * epsilon < spent.epsilon <= epsilon
    assert (spent.steps, spent.delta) == (180, 1e-5)
    assert spent.epsilon == epsilon_of(spent.noise, 1 / 6, 180, 1e-5)


def test_a_careless_wish_gets_some_noise_all_the_same():
    spent = budget(6000, 1 / 6, 180, PrivacySettings(epsilon=1e6))
    assert spent.noise < 0.11 and 100 < spent.epsilon < 1e6


@pytest.mark.parametrize(("wish", "said"), [
    ({}, "either an epsilon or a noise"),
    ({"epsilon": 1.0, "noise": 1.0}, "either an epsilon or a noise"),
    ({"epsilon": 0.0}, "epsilon is 0, but must be above 0"),
    ({"epsilon": math.nan}, "epsilon is nan, but must be above 0"),
    ({"epsilon": 1e-4}, "No noise brings 6 steps to an epsilon of 0.0001 at delta 1e-05. Ask for a larger one"),
    ({"noise": -1.0}, "noise is -1, but must be 0 or more"),
    ({"noise": 1.0, "delta": 1 / 600}, "delta is 0.00166667, but must be above 0 and under 1 / 600"),
    ({"noise": 1.0, "delta": 0.0}, "delta is 0, but"),
    ({"noise": 1.0, "clip": 0.0}, "clip is 0, but must be above 0"),
])
def test_wishes_that_cannot_be_met(wish, said):
    with pytest.raises(TrainingError, match=said):
        budget(600, 1 / 6, 6, PrivacySettings(**wish))


def test_without_opacus_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'crossmodal-retrieval\[privacy\]'"):
        budget(600, 1 / 6, 6, PrivacySettings(epsilon=1.0))
