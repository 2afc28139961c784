"""What a snapshot leaves open about its models: covariances of task effects and of overall effects, fitted to the training
scores by expectation maximisation, and the noise of one score. `agent.online.effects` says what the effects are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.types import Array

OVERALL_SD = 0.3
"""Standard deviation of a model's overall quality around the average model's, where nothing is known of it."""


PUBLISHED_OVERALL_SD = 0.1
"""The same for a model with published figures."""


OWN_VARIANCE, COMMON_VARIANCE = 0.05, 0.06
"""Prior variance of a task's effect on one model alone, and on all models alike (hard and easy tasks)."""


PUBLISHED_OWN_VARIANCE, PUBLISHED_COMMON_VARIANCE = 0.01, 0.02
"""The same for models with published figures, while no model has a score."""


_PRIOR_TASKS = 15.0
"""Number of tasks that these two variances weigh like in the fit."""


AGEING_VARIANCE = 0.01
"""Variance that a task's quality may have gained since the snapshot's scores were made."""


AGEING_OVERALL_SD = 0.05
"""How far a model may have moved on all tasks alike since then, however well they were known."""


_EM_STEPS = 8


_SPREAD = 0.1
"""Noise variance of a score beyond a coin's."""


def noise_variance(expected: Array) -> Array:
    """Variance of one score around ``expected`` (any shape, clipped to [0, 1]): a coin's, plus 0.1 for the task's spread."""
    p = np.clip(expected, 0.0, 1.0)
    out: Array = _SPREAD + p * (1.0 - p)
    return out


def score_variance(expected: float) -> float:
    """`noise_variance` of one number."""
    p = min(max(expected, 0.0), 1.0)
    return _SPREAD + p * (1.0 - p)


@dataclass(frozen=True, slots=True)
class Prior:
    """What a snapshot leaves open about m models on T tasks.

    Parameters
    ----------
    covariance
        (m, m) covariance of task effects.
    overall_covariance
        (m, m) covariance of the models' overall effects mu.
    n_scores
        (T, m) number of scores behind each task mean.
    task_mean
        (T, m) mean quality of each model on each task, in [0, 1].
    """

    covariance: Array
    overall_covariance: Array
    n_scores: Array
    task_mean: Array

    def task(self, row: int) -> tuple[Array, Array]:
        """Loading K of the task on the overall effects, and covariance S of the task's own effects; both (m, m)."""
        precision = self.n_scores[row] / noise_variance(self.task_mean[row])
        identity = np.eye(len(precision))
        loading: Array = np.linalg.inv(identity + self.covariance * precision)
        own = loading @ self.covariance
        moved = np.minimum(1.0, AGEING_OVERALL_SD / np.sqrt(np.diag(self.overall_covariance)))
        return loading + (identity - loading) * moved, (own + own.T) / 2 + AGEING_VARIANCE * identity

    def with_new_models(self, count: int) -> Prior:
        """The same for ``count`` more models of which nothing is known."""
        m, tasks = len(self.overall_covariance), len(self.n_scores)
        covariance = np.full((m + count, m + count), COMMON_VARIANCE)
        covariance[:m, :m] = self.covariance
        overall = np.zeros((m + count, m + count))
        overall[:m, :m] = self.overall_covariance
        new = np.arange(m, m + count)
        covariance[new, new] += OWN_VARIANCE
        overall[new, new] = OVERALL_SD**2
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        return Prior(
            (vectors * np.maximum(values, 1e-6)) @ vectors.T,  # the nearest matrix that is a covariance
            overall,
            np.hstack([self.n_scores, np.zeros((tasks, count))]),
            np.hstack([self.task_mean, np.full((tasks, count), 0.5)]),
        )


def fit_prior(labels: NDArray[np.int64], means: Array, scores: Array, prior: Array | None) -> Prior:
    """Covariances of task effects and of overall effects, by expectation maximisation over the tasks' scores.

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
    informed = np.zeros(m, bool) if prior is None else ~np.isnan(prior).all(axis=0)
    overall = np.diag(np.where(informed, PUBLISHED_OVERALL_SD, OVERALL_SD) ** 2)
    scored = count.sum(axis=1) > 0
    if not scored.any():
        common_sd = np.sqrt(np.where(informed, PUBLISHED_COMMON_VARIANCE, COMMON_VARIANCE))
        own_variance = np.where(informed, PUBLISHED_OWN_VARIANCE, OWN_VARIANCE)
        return Prior(np.diag(own_variance) + np.outer(common_sd, common_sd), overall, count, means)
    covariance = initial = OWN_VARIANCE * np.eye(m) + COMMON_VARIANCE
    precision = (count / noise_variance(means))[scored]  # (t, m)
    grand_mean = float(total.sum() / max(count.sum(), 1.0))
    weighted = precision * (np.divide(total, count, out=np.zeros_like(total), where=count > 0)[scored] - grand_mean)
    for _ in range(_EM_STEPS):
        own, vector, matrix = marginalise(covariance, precision[:, :, None] * np.eye(m), weighted)
        overall_left = np.linalg.inv(np.linalg.inv(overall) + matrix.sum(axis=0))
        mu = overall_left @ vector.sum(axis=0)
        effect = (vector - matrix @ mu) @ covariance  # (t, m)
        covariance = (effect.T @ effect + own.sum(axis=0) + _PRIOR_TASKS * initial) / (scored.sum() + _PRIOR_TASKS)
    return Prior(covariance, overall_left, count, means)


def marginalise(covariance: Array, information: Array, weighted: Array) -> tuple[Array, Array, Array]:
    """Integrate the tasks' own effects out of their likelihoods.

    Parameters
    ----------
    covariance
        (m, m) or (t, m, m) prior covariance of the tasks' own effects.
    information, weighted
        (..., m, m) information matrices and (..., m) information vectors of the scores.

    Returns
    -------
    tuple
        Covariance of each task's own effects given the scores and mu, information vector and matrix of mu.
    """
    mixed = np.eye(covariance.shape[-1]) + information @ covariance  # (..., m, m)
    solved = np.linalg.solve(mixed, np.concatenate([information, weighted[..., None]], axis=-1)).astype(np.float64)
    matrix, vector = solved[..., :-1], solved[..., -1]
    return covariance - covariance @ matrix @ covariance, vector, matrix
