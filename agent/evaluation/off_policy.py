"""Off-policy evaluation: what a policy would have earned, from decisions that another one made.

Every decision logs its exact propensity, so inverse propensity scoring (IPS) is unbiased; self-normalised (SNIPS,
Swaminathan & Joachims 2015) and doubly robust (DR, Dudik, Langford & Li 2011) estimates trade a little bias for much
less variance.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from agent.types import Array

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
        (n,) in [0, 1]; calibrated feedback may lie outside.
    propensity
        (n,) in (0, 1], with which it was chosen.
    options
        (n, m) propensity of every model, 0 where it could not be chosen; None where only that of the chosen is known.
    score_weight
        (n,) how much each score counts; None: all the same.
    """

    chosen: NDArray[np.int64]
    score: Array
    propensity: Array
    _: KW_ONLY
    options: Array | None = None
    score_weight: Array | None = None

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

    def upper(self, confidence: float = 0.95) -> float:
        """One-sided upper bound: the truth is below it with this confidence."""
        return self.mean + NormalDist().inv_cdf(confidence) * self.stderr


def mean_value(terms: Array, score_weight: Array | None = None) -> Value:
    """The mean of n independent terms, weighted by (n,) ``score_weight`` where that is given."""
    n = len(terms)
    weight = np.ones(n) if score_weight is None else score_weight
    if not weight.sum() > 0.0:
        return Value(0.0, float("inf"), 0)
    share = weight / weight.sum()
    mean = float(share @ terms)
    spread = float(np.sqrt(np.sum((share * (terms - mean)) ** 2) * n / (n - 1))) if n > 1 else float("inf")
    return Value(mean, spread, n)


def importance(policy: Array, log: Logged) -> Array:
    """(n,) weights ``policy[i, chosen] / propensity``, clipped at `MAX_WEIGHT`."""
    taken = policy[np.arange(len(log)), log.chosen]
    return np.minimum(taken / log.propensity, MAX_WEIGHT)


def effective_size(weight: Array) -> float:
    """How many equally weighed decisions (n,) weighed ones are worth (Kish 1965): ``(sum w)^2 / sum w^2``.

    Examples
    --------
    >>> effective_size(np.array([2.0, 2.0, 0.0])), effective_size(np.zeros(3))
    (2.0, 0.0)
    """
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0.0 else 0.0


def ips(policy: Array, log: Logged) -> Value:
    """Inverse propensity score value of a ``policy`` (n, m) of choice probabilities."""
    return mean_value(importance(policy, log) * log.score, log.score_weight)


def snips(policy: Array, log: Logged) -> Value:
    """Self-normalised IPS; its standard error by the delta method."""
    weight = importance(policy, log) * (1.0 if log.score_weight is None else log.score_weight)
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
    return mean_value(doubly_robust_terms(policy, quality, log), log.score_weight)
