"""Task effects: how far each model's quality lies from what is expected of it, by task; a hierarchical Gaussian.

Task c has a vector over the models, ``theta_c = K_c mu + delta_c``: overall effects ``mu ~ N(0, L)`` that all tasks share
through the loading K_c, and the task's own effects ``delta_c ~ N(0, S_c)``. A score observes one entry of theta_c with
Gaussian noise, a comparison of two models the difference of two. S correlates models, so a score of one informs on the
others; mu correlates tasks.

The posterior is a closed form of an information matrix and an information vector per task. Both are sums over scores, so
their order does not matter and a score can be subtracted exactly (Bishop 2006, section 2.3.3; a linear mixed model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.online.prior import Prior, marginalise
from agent.types import Array


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
        Scores of one task after which an old one weighs 1/e.

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
        # Sums over scores, in units of `_scale`: later scores are scaled up where earlier ones would be decayed.
        self._information_matrix, self._information_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._scale, self._n_scores = np.zeros(0), np.zeros(0)
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
        """
        weights = {}
        for task, probability in task_probabilities.items():
            row = self._add_row(task)
            self._scale[row] *= self._growth
            self._n_scores[row] += probability
            weights[task] = probability * precision * self._scale[row]
        self.add_weighted(weights, coefficients, residual)
        return weights

    def add_weighted(self, weights: Mapping[int, float], coefficients: Mapping[int, float], residual: float) -> None:
        """Add a score with the task ``weights`` that `add` gave an earlier one, as of that one's time."""
        at, values = np.array(list(coefficients)), np.array(list(coefficients.values()))
        outer = np.outer(values, values)
        for task, weight in weights.items():
            row = self._add_row(task)
            self._information_matrix[row][np.ix_(at, at)] += weight * outer
            self._information_vector[row, at] += weight * residual * values
            self._stale.add(row)
        self._overall = None

    def posterior(self, task_probabilities: Mapping[int, float]) -> Gaussian:
        """Effects on a prompt of these tasks, at least one; the probabilities need not sum to one."""
        overall = self.overall()
        if len(task_probabilities) == 1:
            return self._task(next(iter(task_probabilities)), overall)
        total = sum(task_probabilities.values())
        parts = [(share / total, self._task(task, overall)) for task, share in task_probabilities.items()]
        return Gaussian(
            np.sum([s * g.mean for s, g in parts], axis=0), np.sum([s * g.covariance for s, g in parts], axis=0)
        )

    def overall(self) -> Gaussian:
        """The overall effects mu."""
        if self._overall is not None:
            return self._overall
        for row in self._stale:
            scale, loading = self._scale[row], self._loading[row]
            _, vector, matrix = marginalise(
                self._covariance[row], self._information_matrix[row] / scale, self._information_vector[row] / scale
            )
            self._effect_vector[row], self._effect_matrix[row] = vector, matrix
            self._overall_vector[row], self._overall_matrix[row] = loading.T @ vector, loading.T @ matrix @ loading
        self._stale.clear()
        self._posteriors.clear()
        covariance = np.linalg.inv(np.linalg.inv(self._prior.overall_covariance) + self._overall_matrix.sum(axis=0))
        self._overall = Gaussian(covariance @ self._overall_vector.sum(axis=0), covariance)
        return self._overall

    def n_scores(self, task_probabilities: Mapping[int, float]) -> float:
        """Number of scores of these tasks, each weighted by the probability of its task."""
        return float(sum(p * self._n_scores[self._row[t]] for t, p in task_probabilities.items() if t in self._row))

    @property
    def overflows(self) -> bool:
        """Whether the scales are so large that the sums should be made anew."""
        return bool((self._scale > 1e100).any())

    def arrays(self) -> list[Array]:
        """The whole state."""
        return [
            np.array(list(self._row)),
            self._information_matrix,
            self._information_vector,
            self._scale,
            self._n_scores,
        ]

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
            self._scale, self._n_scores = np.append(self._scale, 1.0), np.append(self._n_scores, 0.0)
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
