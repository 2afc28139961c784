"""What a snapshot leaves open about every model on every task: the prior of the online estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.types import Array

LEVEL_SD = 0.3
"""How far a model of which nothing is known may lie from the average model."""


INFORMED_SD = 0.1
"""The same for a model with published figures."""


OWN_SPREAD, COMMON_SPREAD = 0.05, 0.06
"""Variance of a task's effect on one model alone, and on all models alike (hard and easy tasks), before data say better."""


_BELIEF = 15.0
"""Tasks that the two variances above weigh like."""


SINCE = 0.01
"""Variance that a task's quality may have gained since the scores behind it were made."""


SINCE_LEVEL_SD = 0.05
"""How far a model may have moved on all tasks alike since then, however well they were known."""


_ROUNDS = 8


def noise_variance(expected: Array) -> Array:
    """Variance of one score around a task's expectation: that of a coin, and what tells the task's prompts apart."""
    p = np.clip(expected, 0.0, 1.0)
    out: Array = 0.1 + p * (1.0 - p)
    return out


@dataclass(frozen=True, slots=True)
class Prior:
    """What a snapshot leaves open about m models on T tasks.

    Parameters
    ----------
    spread
        (m, m) covariance of task effects.
    level
        (m, m) covariance of what is not known of the models' overall quality.
    evidence
        (T, m) scores that stand behind each task mean.
    expected
        (T, m) the task means.
    """

    spread: Array
    level: Array
    evidence: Array
    expected: Array

    def task(self, row: int) -> tuple[Array, Array]:
        """K and S of one task, each (m, m): how far it hangs on the level, and what else is not known of it."""
        heard = self.evidence[row] / noise_variance(self.expected[row])
        every = np.eye(len(heard))
        loading: Array = np.linalg.inv(every + self.spread * heard)
        own = loading @ self.spread
        moved = np.minimum(1.0, SINCE_LEVEL_SD / np.sqrt(np.diag(self.level)))
        return loading + (every - loading) * moved, (own + own.T) / 2 + SINCE * every

    def grown(self, count: int) -> Prior:
        """The same for ``count`` more models of which nothing is known."""
        m, tasks = len(self.level), len(self.evidence)
        spread = np.full((m + count, m + count), COMMON_SPREAD)
        spread[:m, :m] = self.spread
        level = np.zeros((m + count, m + count))
        level[:m, :m] = self.level
        new = np.arange(m, m + count)
        spread[new, new] += OWN_SPREAD
        level[new, new] = LEVEL_SD**2
        return Prior(
            nearest_covariance(spread),
            level,
            np.hstack([self.evidence, np.zeros((tasks, count))]),
            np.hstack([self.expected, np.full((tasks, count), 0.5)]),
        )


def nearest_covariance(matrix: Array) -> Array:
    """``matrix`` with its negative eigenvalues at (almost) zero."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    out: Array = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    return out


def fit_prior(labels: NDArray[np.int64], means: Array, scores: Array, prior: Array | None) -> Prior:
    """How alike models are over tasks, by expectation maximisation over the tasks' scores.

    Parameters
    ----------
    labels
        (n,) task of each prompt.
    means
        (T, m) task means.
    scores
        (n, m), NaN where unseen.
    prior
        (n, m) expectation from published figures, NaN where there is none; or None.
    """
    tasks, m = means.shape
    seen = ~np.isnan(scores)
    count, total = np.zeros((tasks, m)), np.zeros((tasks, m))
    np.add.at(count, labels, seen)
    np.add.at(total, labels, np.where(seen, scores, 0.0))
    spread = before = OWN_SPREAD * np.eye(m) + COMMON_SPREAD
    informed = np.zeros(m, bool) if prior is None else ~np.isnan(prior).all(axis=0)
    level = np.diag(np.where(informed, INFORMED_SD, LEVEL_SD) ** 2)
    told = count.sum(axis=1) > 0
    precision = (count / noise_variance(means))[told]  # (t, m)
    middle = float(total.sum() / max(count.sum(), 1.0))
    weighted = precision * (np.divide(total, count, out=np.zeros_like(total), where=count > 0)[told] - middle)
    for _ in range(_ROUNDS if told.any() else 0):
        covariance, gain, pull = _posteriors(spread, precision[:, :, None] * np.eye(m), weighted)
        uncertain = np.linalg.inv(np.linalg.inv(level) + pull.sum(axis=0))
        mu = uncertain @ gain.sum(axis=0)
        effect = (gain - pull @ mu) @ spread  # (t, m)
        spread = (effect.T @ effect + covariance.sum(axis=0) + _BELIEF * before) / (told.sum() + _BELIEF)
        level_left = uncertain
    return Prior(spread, level_left if told.any() else level, count, means)


def _posteriors(spread: Array, information: Array, weighted: Array) -> tuple[Array, Array, Array]:
    """For each of t tasks: covariance of its effect given mu, and its information vector and matrix on mu."""
    mixed = np.eye(spread.shape[-1]) + information @ spread  # (t, m, m)
    solved = np.linalg.solve(mixed, np.concatenate([information, weighted[..., None]], axis=-1)).astype(np.float64)
    pull, gain = solved[..., :-1], solved[..., -1]
    return spread - spread @ pull @ spread, gain, pull
