"""What a snapshot leaves open about its models: covariances of task effects and of overall effects, fitted to the training
scores by expectation maximisation, and the noise of one score. `agent.online.effects` says what the effects are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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


FACTORS = 3
"""Length of a new model's embedding, at most."""


_LEAST_REST = 0.005
"""Least variance that its factors leave of a new model's effect on a task."""


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
        (w, w) covariance of the models' overall effects mu, and behind these of the new models' embeddings; w is m where
        there are none.
    n_scores
        (T, m) number of scores behind each task mean.
    task_mean
        (T, m) mean quality of each model on each task, in [0, 1].
    interaction
        Variance of what sets models apart from task to task, beside their overall quality.
    new_models, factors
        Of `with_new_models`: how many of the m models these are, the last ones, and (T, r) factors of the tasks, on which
        their embeddings count.
    """

    covariance: Array
    overall_covariance: Array
    n_scores: Array
    task_mean: Array
    interaction: float = OWN_VARIANCE
    new_models: int = 0
    factors: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def task(self, row: int) -> tuple[Array, Array]:
        """Loading K (m, w) of the task on the overall effects, and covariance S (m, m) of the task's own effects."""
        precision = self.n_scores[row] / noise_variance(self.task_mean[row])
        m = len(precision)
        identity = np.eye(m)
        loading: Array = np.linalg.inv(identity + self.covariance * precision)
        own = loading @ self.covariance
        moved = np.minimum(1.0, AGEING_OVERALL_SD / np.sqrt(np.diag(self.overall_covariance)[:m]))
        loading = loading + (identity - loading) * moved
        if self.new_models:
            loading = np.concatenate([loading, np.kron(loading[:, -self.new_models :], self.factors[row])], axis=1)
        return loading, (own + own.T) / 2 + AGEING_VARIANCE * identity

    def with_new_models(self, count: int) -> Prior:
        """The same for ``count`` more models of which nothing is known, but that they are models like the others.

        What sets models apart on a task, beside their overall quality, has a covariance over tasks. A new model's part is
        drawn from it: the task's ``factors``, leading ones, times the model's *embedding*, and a rest of the task's own. The
        embeddings stand behind the overall effects, so a few scores on some tasks inform on the others.
        """
        if not count:
            return self
        m, tasks = len(self.overall_covariance), len(self.n_scores)
        factors, rest = self._factors()
        common = self.covariance.sum(axis=0) - np.diag(self.covariance)
        common = common / (m - 1) if m > 1 else np.full(m, COMMON_VARIANCE)
        covariance = np.full((m + count, m + count), common.mean())
        covariance[:m, :m] = self.covariance
        covariance[m:, :m], covariance[:m, m:] = common, common[:, None]
        new = np.arange(m, m + count)
        covariance[new, new] += rest
        values, vectors = np.linalg.eigh(covariance)
        overall = np.eye(m + count * (1 + factors.shape[1]))
        overall[:m, :m] = self.overall_covariance
        overall[new, new] = OVERALL_SD**2
        return Prior(
            (vectors * np.maximum(values, 1e-6)) @ vectors.T,  # the nearest matrix that is a covariance
            overall,
            np.hstack([self.n_scores, np.zeros((tasks, count))]),
            np.hstack([self.task_mean, np.full((tasks, count), 0.5)]),
            self.interaction,
            count,
            factors,
        )

    def _factors(self) -> tuple[Array, float]:
        """(T, r) factors of the tasks, 0 on those without scores, and the variance of the interaction that they leave."""
        tasks, m = self.task_mean.shape
        factors = np.zeros((tasks, min(FACTORS, m - 2) if m > 2 else 0))
        scored = self.n_scores.max(axis=1) > 0.0 if m else np.zeros(tasks, bool)
        if scored.sum() <= factors.shape[1] or not factors.size:
            return factors, self.interaction
        apart = self.task_mean[scored] - self.task_mean[scored].mean(axis=1, keepdims=True)
        left, size, _ = np.linalg.svd(apart - apart.mean(axis=0), full_matrices=False)
        factors[scored] = (left * size)[:, : factors.shape[1]] / np.sqrt(m - 1)
        explained = float((factors[scored] ** 2).sum(axis=1).mean())
        return factors, max(self.interaction * m / (m - 1) - explained, _LEAST_REST)


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
