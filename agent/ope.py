"""Off-policy evaluation: what a policy would have earned, from decisions that another one made.

Every decision logs its exact propensity, so inverse propensity scoring (IPS) is unbiased; self-normalised (SNIPS,
Swaminathan & Joachims 2015) and doubly robust (DR, Dudik, Langford & Li 2011) estimates trade a little bias for much
less variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_WEIGHT = 50.0
"""Importance weights are clipped here; DR's model term keeps the clipped part from being lost."""


@dataclass(frozen=True, slots=True)
class Logged:
    """n logged decisions with their scores.

    Parameters
    ----------
    chosen
        (n,) column of the model that answered.
    score
        (n,) in [0, 1].
    propensity
        (n,) in (0, 1], with which it was chosen.
    trust
        (n,) what each score weighs beside the others; None: all alike.
    """

    chosen: NDArray[np.int64]
    score: Array
    propensity: Array
    trust: Array | None = None

    def __len__(self) -> int:
        return len(self.chosen)


@dataclass(frozen=True, slots=True)
class Value:
    """A mean with its standard error over n decisions."""

    mean: float
    stderr: float
    n: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided normal interval."""
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        return self.mean - z * self.stderr, self.mean + z * self.stderr

    def lower(self, confidence: float = 0.95) -> float:
        """One-sided lower bound: the truth is above it with this confidence."""
        return self.mean - NormalDist().inv_cdf(confidence) * self.stderr


def mean_value(terms: Array, trust: Array | None = None) -> Value:
    """The mean of n independent terms, weighed by their ``trust``."""
    n = len(terms)
    if n == 0:
        return Value(0.0, float("inf"), 0)
    share = np.full(n, 1.0 / n) if trust is None else trust / trust.sum()
    mean = float(share @ terms)
    spread = float(np.sqrt(n / (n - 1) * np.sum((share * (terms - mean)) ** 2))) if n > 1 else float("inf")
    return Value(mean, spread, n)


def effective_size(weight: Array) -> float:
    """How many equally weighed decisions (n,) weighed ones are worth (Kish 1965): ``(sum w)^2 / sum w^2``.

    Examples
    --------
    >>> effective_size(np.array([2.0, 2.0, 0.0])), effective_size(np.zeros(3))
    (2.0, 0.0)
    """
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0.0 else 0.0


def importance(policy: Array, log: Logged) -> Array:
    """(n,) weights ``policy[i, chosen] / propensity``, clipped at `MAX_WEIGHT`."""
    taken = policy[np.arange(len(log)), log.chosen]
    return np.minimum(taken / log.propensity, MAX_WEIGHT)


def ips(policy: Array, log: Logged) -> Value:
    """Inverse propensity score value of a ``policy`` (n, m) of choice probabilities."""
    return mean_value(importance(policy, log) * log.score, log.trust)


def snips(policy: Array, log: Logged) -> Value:
    """Self-normalised IPS; its standard error by the delta method."""
    weight = importance(policy, log) * (1.0 if log.trust is None else log.trust)
    total = weight.sum()
    if total <= 0:
        return Value(0.0, float("inf"), len(log))
    mean = float(weight @ log.score / total)
    spread = float(np.sqrt(np.sum((weight * (log.score - mean)) ** 2)) / total)
    return Value(mean, spread, len(log))


def doubly_robust_terms(policy: Array, quality: Array, log: Logged) -> Array:
    """(n,) DR terms of a ``policy`` (n, m), given any model of ``quality`` (n, m) that was not fitted on these scores."""
    predicted = quality[np.arange(len(log)), log.chosen]
    terms: Array = (policy * quality).sum(axis=1) + importance(policy, log) * (log.score - predicted)
    return terms


def doubly_robust(policy: Array, quality: Array, log: Logged) -> Value:
    """Doubly robust value of a ``policy``."""
    return mean_value(doubly_robust_terms(policy, quality, log), log.trust)
