"""Off-policy evaluation: what a policy would have earned, from decisions that another policy made.

Every decision logs its exact propensities, so inverse propensity scoring (IPS) is unbiased; self-normalised (SNIPS,
Swaminathan & Joachims 2015) and doubly robust (DR, Dudik, Langford & Li 2011) estimates trade a little bias for much
less variance. DR terms are linear in the policy, so those of a difference of two policies estimate the difference of
their values; the gate and `agent.evaluation.value` all use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from agent.types import Array

MAX_WEIGHT = 50.0
"""Importance weights are clipped here."""


@dataclass(frozen=True, slots=True)
class ScoredChoices:
    """n logged choices among m models, with their scores.

    Parameters
    ----------
    chosen
        (n,) column of the model that answered.
    score
        (n,) in [0, 1]; calibrated feedback may lie outside.
    score_weight
        (n,) how much each score counts, at least 0.
    propensity
        (n, m) with which each model was to be chosen (the logging policy); 0 where it was not eligible.
    """

    chosen: NDArray[np.int64]
    score: Array
    score_weight: Array
    propensity: Array

    def __len__(self) -> int:
        return len(self.chosen)

    def of_chosen(self, values: Array) -> Array:
        """(n,) entries of (n, m) ``values`` in the columns that were chosen."""
        out: Array = values[np.arange(len(self)), self.chosen]
        return out


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
        """One-sided lower confidence bound."""
        return self.mean - NormalDist().inv_cdf(confidence) * self.stderr

    def upper(self, confidence: float = 0.95) -> float:
        """One-sided upper confidence bound."""
        return self.mean + NormalDist().inv_cdf(confidence) * self.stderr


def mean_value(terms: Array, score_weight: Array) -> Value:
    """Mean of (n,) independent terms, weighted by (n,) ``score_weight``."""
    n = len(terms)
    if not score_weight.sum() > 0.0:
        return Value(0.0, float("inf"), 0)
    share = score_weight / score_weight.sum()
    mean = float(share @ terms)
    stderr = float(np.sqrt(np.sum((share * (terms - mean)) ** 2) * n / (n - 1))) if n > 1 else float("inf")
    return Value(mean, stderr, n)


def importance(policy: Array, log: ScoredChoices, max_weight: float = MAX_WEIGHT) -> Array:
    """(n,) weights ``policy[i, chosen] / propensity[i, chosen]``, clipped at ``max_weight`` (either sign)."""
    return np.clip(log.of_chosen(policy) / log.of_chosen(log.propensity), -max_weight, max_weight)


def effective_size(weight: Array) -> float:
    """Number of equally weighted decisions that (n,) weighted ones are worth: ``(sum w)^2 / sum w^2`` (Kish 1965).

    Examples
    --------
    >>> effective_size(np.array([2.0, 2.0, 0.0])), effective_size(np.zeros(3))
    (2.0, 0.0)
    """
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0.0 else 0.0


def ips(policy: Array, log: ScoredChoices) -> Value:
    """Inverse propensity score value of a ``policy`` (n, m) of choice probabilities."""
    return mean_value(importance(policy, log) * log.score, log.score_weight)


def snips(policy: Array, log: ScoredChoices) -> Value:
    """Self-normalised IPS; its standard error by the delta method."""
    weight = importance(policy, log) * log.score_weight
    total = weight.sum()
    if total <= 0:
        return Value(0.0, float("inf"), len(log))
    mean = float(weight @ log.score / total)
    stderr = float(np.sqrt(np.sum((weight * (log.score - mean)) ** 2)) / total)
    return Value(mean, stderr, len(log))


def doubly_robust_terms(policy: Array, quality: Array, log: ScoredChoices, max_weight: float = MAX_WEIGHT) -> Array:
    """(n,) ``sum_a policy_a * quality_a + policy_chosen / propensity_chosen * (score - quality_chosen)``.

    Parameters
    ----------
    policy
        (n, m) choice probabilities, or a difference of two policies' choice probabilities.
    quality
        (n, m) estimates that were not fitted to these scores.
    log
        The choices.
    max_weight
        Importance weights are clipped here; the first term still counts what is clipped.
    """
    terms: Array = (policy * quality).sum(axis=1)
    return terms + importance(policy, log, max_weight) * (log.score - log.of_chosen(quality))


def doubly_robust(policy: Array, quality: Array, log: ScoredChoices) -> Value:
    """Doubly robust value of a ``policy``."""
    return mean_value(doubly_robust_terms(policy, quality, log), log.score_weight)
