"""What private training may spend and does spend, by Opacus' accountant; nothing of it looks at an example."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from retrieval.errors import MissingPackageError, TrainingError

# Orders of Rényi divergence to choose the best from: Opacus' own, and larger ones for small epsilons.
ORDERS = [1 + x / 10 for x in range(1, 100)] + [*range(12, 64), 80, 112, 160, 256, 512]
# Means of the examples are told once, all of them taken, under this many times the noise of a step.
MEANS_NOISE = 5.0
_MOST_NOISE = 1e5


@dataclass(frozen=True)
class PrivacySettings:
    """Either epsilon, and the noise follows from it; or noise, and epsilon follows.

    epsilon  the most that training may spend, at `delta`
    noise    standard deviation of the noise, in units of `clip`
    delta    chance that the promise fails; under 1 / examples
    clip     greatest length of one example's gradient, over both projections together
    """

    epsilon: float | None = None
    noise: float | None = None
    delta: float = 1e-5
    clip: float = 1.0


@dataclass(frozen=True)
class Spent:
    """epsilon at delta by Opacus' RDP accountant, inf without noise; noise in units of the clip."""

    epsilon: float
    delta: float
    noise: float
    steps: int


def budget(n: int, rate: float, steps: int, private: PrivacySettings) -> Spent:
    """What training on n examples will spend, in steps that take each with chance `rate`.

    Raises TrainingError for a wish that cannot be met; MissingPackageError without Opacus.
    """
    if (private.epsilon is None) == (private.noise is None):
        raise TrainingError("Private training needs either an epsilon or a noise, and not both.")
    if not 0 < private.delta < 1 / n:
        raise TrainingError(
            f"delta is {private.delta:g}, but must be above 0 and under 1 / {n}, or a photo could be "
            "given away whole. Well under is better: a tenth of that."
        )
    if not 0 < private.clip < math.inf:
        raise TrainingError(f"The clip is {private.clip:g}, but must be above 0.")
    noise = private.noise
    if noise is None:
        noise = _noise_for(private.epsilon, rate, steps, private.delta)
    elif not 0 <= noise < math.inf:
        raise TrainingError(f"The noise is {noise:g}, but must be 0 or more.")
    return Spent(epsilon_of(noise, rate, steps, private.delta), private.delta, noise, steps)


def epsilon_of(noise: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon of `steps` steps that take each example with chance `rate`, and of the means; inf without noise.

    By Rényi divergences (Mironov, Talwar and Zhang 2019, arXiv 1908.10530), which never promise too
    much. Raises MissingPackageError.
    """
    if noise == 0:
        return math.inf
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise MissingPackageError(
            "Private training needs opacus, which is not installed. Install it: "
            "pip install 'crossmodal-retrieval[privacy]'"
        ) from error
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps), (MEANS_NOISE * noise, 1.0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # further orders might find a smaller epsilon; this one holds
        return float(accountant.get_epsilon(delta, alphas=ORDERS))


def _noise_for(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """The least noise for this epsilon, to one percent of it."""
    if not 0 < epsilon < math.inf:
        raise TrainingError(f"epsilon is {epsilon:g}, but must be above 0.")
    low, high = 0.1, 1.0  # less than a tenth would hide nothing
    while (spent := epsilon_of(high, rate, steps, delta)) > epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise TrainingError(
                f"No noise brings {steps} steps to an epsilon of {epsilon:g} at delta {delta:g}. Ask for a larger one."
            )
    while spent < 0.99 * epsilon and high > 1.001 * low:
        middle = math.sqrt(low * high)
        if (of_middle := epsilon_of(middle, rate, steps, delta)) > epsilon:
            low = middle
        else:
            high, spent = middle, of_middle
    return high
