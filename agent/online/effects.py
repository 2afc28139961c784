"""Task effects: how far each model's quality lies from what is expected of it, by task; a hierarchical Gaussian.

Task c has a vector over the models, ``theta_c = K_c mu + delta_c``: overall effects ``mu ~ N(0, L)`` that all tasks share
through the loading K_c, and the task's own effects ``delta_c ~ N(0, S_c)``. A score observes one entry of theta_c with
Gaussian noise, a comparison of two models the difference of two. S correlates models, so a score of one informs on the
others; mu correlates tasks.

A *neighbourhood*, prompts of a task that are alike (`agent.index.prompts`), may have effects of its own on top, gamma ~
N(0, g): what one kind of prompt alone says is not laid upon its whole task. They are integrated out of what the
neighbourhood's scores tell of theta_c.

`Prior` is what a snapshot leaves open, fitted to the training scores by expectation maximisation. `TaskEffects` is the
posterior given the scores since, a closed form of an information matrix and an information vector per task, made of sums
over scores, so their order does not matter and a score can be subtracted exactly (Bishop 2006, section 2.3.3; a linear mixed
model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.online.neighbourhoods import Neighbourhood
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


_MAX_SCALE = 1e100


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


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Mean (m,) and covariance (m, m) of the effects on some models."""

    mean: Array
    covariance: Array


class TaskEffects:
    """The posterior over the effects of every task.

    Parameters
    ----------
    prior
        L, and K_c and S_c of the snapshot's tasks.
    tasks
        Ids of the prior's rows. Any other id is a task without scores: K is the identity, S the prior covariance.
    memory
        Scores of a model in one neighbourhood of a task after which an old one weighs 1/e.

    Attributes
    ----------
    overflows
        Whether the scales are so large that the sums should be made anew.

    Examples
    --------
    >>> effects = TaskEffects(Prior(0.1 * np.eye(2), 0.01 * np.eye(2), np.zeros((1, 2)), np.full((1, 2), 0.5)), (7,))
    >>> for _ in range(50):
    ...     _ = effects.add({7: 1.0}, {0: 1.0}, residual=-0.5, precision=4.0)
    >>> effects.posterior({7: 1.0}).mean.round(1).tolist()
    [-0.5, 0.0]
    """

    def __init__(self, prior: Prior, tasks: Sequence[int], memory: float = 2000.0) -> None:
        self._prior = prior
        self._prior_row = {task: row for row, task in enumerate(tasks)}
        self._growth = 1.0 / (1.0 - 1.0 / memory)
        m = len(prior.overall_covariance)
        self._row: dict[int, int] = {}  # task -> row of the arrays below, in order of first score
        self._loading, self._covariance = np.zeros((0, m, m)), np.zeros((0, m, m))
        # Sums on theta: of comparisons, and of what neighbourhoods tell with gamma integrated out.
        self._information_matrix, self._information_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._n_scores = np.zeros(0)
        self._neighbourhoods: dict[tuple[int, int | None], Neighbourhood] = {}
        self.overflows = False
        # Derived: information on theta with delta integrated out, and the same on mu.
        self._effect_matrix, self._effect_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._overall_matrix, self._overall_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._stale: set[int] = set()  # rows whose derived arrays are behind their sums
        self._overall: Gaussian | None = Gaussian(np.zeros(m), prior.overall_covariance)
        self._posteriors: dict[int, Gaussian] = {}

    def add(
        self,
        task_probabilities: Mapping[int, float],
        coefficients: Mapping[int, float],
        residual: float,
        precision: float,
        neighbourhood: int | None = None,
    ) -> dict[int, float]:
        """Add a score; gives task -> weight, with whose negatives `add_weighted` subtracts it again.

        Parameters
        ----------
        task_probabilities
            task -> probability that the prompt belongs to it.
        coefficients
            model -> coefficient: ``{m: 1}`` for a score, ``{a: 1, b: -1}`` for a comparison.
        residual
            Observed less expected quality.
        precision
            One over the variance of its noise.
        neighbourhood
            The prompt's; None where it is in none. Comparisons count for tasks alone.
        """
        weights = {}
        for task, probability in task_probabilities.items():
            row = self._add_row(task)
            self._n_scores[row] += probability
            weights[task] = probability * precision
            if len(coefficients) == 1:
                scale = self._neighbourhood(task, neighbourhood).grow(next(iter(coefficients)), self._growth)
                self.overflows |= scale > _MAX_SCALE
                weights[task] *= scale
        self.add_weighted(weights, coefficients, residual, neighbourhood)
        return weights

    def add_weighted(
        self,
        weights: Mapping[int, float],
        coefficients: Mapping[int, float],
        residual: float,
        neighbourhood: int | None = None,
    ) -> None:
        """Add a score with the task ``weights`` that `add` gave an earlier one, as of that one's time."""
        for task, weight in weights.items():
            row = self._add_row(task)
            matrix, vector = self._information_matrix[row], self._information_vector[row]
            if len(coefficients) == 1:
                ((a, _),) = coefficients.items()
                precision, weighted = self._neighbourhood(task, neighbourhood).add(a, weight, residual)
                matrix[a, a] += precision
                vector[a] += weighted
            else:
                for a, left in coefficients.items():
                    vector[a] += weight * residual * left
                    for b, right in coefficients.items():
                        matrix[a, b] += weight * (left * right)
            self._stale.add(row)
        self._overall = None

    def posterior(self, task_probabilities: Mapping[int, float], neighbourhood: int | None = None) -> Gaussian:
        """Effects on a prompt of these tasks, at least one; the probabilities need not sum to one.

        The covariance is of the tasks' effects as far as the neighbourhood's scores leave them open; the variance of the
        neighbourhood's own effects is not in it, as that of single prompts is not.
        """
        overall, total = self.overall(), sum(task_probabilities.values())
        parts = [
            (share / total, self._on_prompt(task, neighbourhood, overall)) for task, share in task_probabilities.items()
        ]
        if len(parts) == 1:
            return parts[0][1]
        return Gaussian(
            np.sum([s * g.mean for s, g in parts], axis=0), np.sum([s * g.covariance for s, g in parts], axis=0)
        )

    def _on_prompt(self, task: int, neighbourhood: int | None, overall: Gaussian) -> Gaussian:
        """theta of a task, and gamma of a neighbourhood in it where that has scores."""
        effect = self._task(task, overall)
        near = None if neighbourhood is None else self._neighbourhoods.get((task, neighbourhood))
        return effect if near is None else Gaussian(*near.posterior(effect.mean, effect.covariance))

    def overall(self) -> Gaussian:
        """The overall effects mu."""
        if self._overall is not None:
            return self._overall
        if self._stale:
            rows = np.array(sorted(self._stale))
            loading = self._loading[rows]
            _, vector, matrix = marginalise(
                self._covariance[rows], self._information_matrix[rows], self._information_vector[rows]
            )
            turned = loading.transpose(0, 2, 1)
            self._effect_vector[rows], self._effect_matrix[rows] = vector, matrix
            self._overall_vector[rows] = (turned @ vector[:, :, None])[:, :, 0]
            self._overall_matrix[rows] = turned @ matrix @ loading
        self._stale.clear()
        self._posteriors.clear()
        covariance = np.linalg.inv(np.linalg.inv(self._prior.overall_covariance) + self._overall_matrix.sum(axis=0))
        self._overall = Gaussian(covariance @ self._overall_vector.sum(axis=0), covariance)
        return self._overall

    def n_scores(self, task_probabilities: Mapping[int, float]) -> float:
        """Number of scores of these tasks, each weighted by the probability of its task."""
        return float(sum(p * self._n_scores[self._row[t]] for t, p in task_probabilities.items() if t in self._row))

    def arrays(self) -> list[Array]:
        """The whole state."""
        near = self._neighbourhoods
        return [
            np.array(list(self._row)),
            self._information_matrix,
            self._information_vector,
            self._n_scores,
            np.array([(task, -1 if key is None else key) for task, key in near]),
            np.array([(of.scale, of.precision, of.weighted) for of in near.values()]),
        ]

    def _neighbourhood(self, task: int, neighbourhood: int | None) -> Neighbourhood:
        key = (task, neighbourhood)
        found = self._neighbourhoods.get(key)
        if found is None:
            models = len(self._prior.overall_covariance)
            found = self._neighbourhoods[key] = Neighbourhood(models, neighbourhood is not None)
        return found

    def _add_row(self, task: int) -> int:
        row = self._row.get(task)
        if row is None:
            row = self._row[task] = len(self._row)
            loading, covariance = self._task_prior(task)
            self._loading = np.concatenate([self._loading, loading[None]])
            self._covariance = np.concatenate([self._covariance, covariance[None]])
            for kind in ("information", "effect", "overall"):
                for name in (f"_{kind}_matrix", f"_{kind}_vector"):
                    array = getattr(self, name)
                    setattr(self, name, np.concatenate([array, np.zeros((1, *array.shape[1:]))]))
                self._n_scores = np.append(self._n_scores, 0.0)
        return row

    def _task_prior(self, task: int) -> tuple[Array, Array]:
        if task in self._prior_row:
            return self._prior.task(self._prior_row[task])
        return np.eye(len(self._prior.overall_covariance)), self._prior.covariance

    def _task(self, task: int, overall: Gaussian) -> Gaussian:
        """Posterior of theta of one task, cached until the next score."""
        if task in self._posteriors:
            return self._posteriors[task]
        row = self._row.get(task)
        if row is None:
            loading, covariance = self._task_prior(task)
            found = Gaussian(loading @ overall.mean, covariance + loading @ overall.covariance @ loading.T)
        else:
            covariance, matrix = self._covariance[row], self._effect_matrix[row]
            loading = self._loading[row] - covariance @ matrix @ self._loading[row]
            found = Gaussian(
                loading @ overall.mean + covariance @ self._effect_vector[row],
                covariance - covariance @ matrix @ covariance + loading @ overall.covariance @ loading.T,
            )
        self._posteriors[task] = found
        return found
