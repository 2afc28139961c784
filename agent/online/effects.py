"""Task effects: how far each model's quality lies from what is expected of it, by task; a hierarchical Gaussian.

Task c has a vector over the models, ``theta_c = K_c mu + delta_c``: overall effects ``mu ~ N(0, L)`` that all tasks share
through the loading K_c, and the task's own effects ``delta_c ~ N(0, S_c)``. A score observes one entry of theta_c with
Gaussian noise, a comparison of two models the difference of two. S correlates models, so a score of one informs on the
others; mu correlates tasks.

A *neighbourhood*, prompts of a task that are alike (`agent.index.prompts`), may have effects of its own on top, gamma ~
N(0, g): what one kind of prompt alone says is not laid upon its whole task. They are integrated out of what the
neighbourhood's scores say of theta_c.

`agent.online.prior.Prior` is what a snapshot leaves open. `TaskEffects` is the posterior given the scores since, a closed form
of an information matrix and an information vector per task, made of sums over scores, so their order does not matter and a
score can be subtracted exactly (Bishop 2006, section 2.3.3; a linear mixed model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.online.neighbourhoods import Neighbourhood
from agent.online.prior import Prior, marginalise
from agent.types import Array

_MAX_SCALE = 1e100


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
        m, width = len(prior.covariance), len(prior.overall_covariance)
        self._row: dict[int, int] = {}  # task -> row of the arrays below, in order of first score
        self._loading, self._covariance = np.zeros((0, m, width)), np.zeros((0, m, m))
        # Sums on theta: of comparisons, and of the neighbourhoods' messages, gamma integrated out.
        self._information_matrix, self._information_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._n_scores = np.zeros(0)
        self._neighbourhoods: dict[int | None, Neighbourhood] = {None: Neighbourhood(apart=False)}
        self.overflows = False
        # Derived: information on theta with delta integrated out, and the same on mu.
        self._effect_matrix, self._effect_vector = np.zeros((0, m, m)), np.zeros((0, m))
        self._overall_matrix, self._overall_vector = np.zeros((0, width, width)), np.zeros((0, width))
        self._stale: set[int] = set()  # rows whose derived arrays are behind their sums
        self._overall: Gaussian | None = Gaussian(np.zeros(width), prior.overall_covariance)
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
        near = self._neighbourhood(neighbourhood)
        near.held += 1
        for task, probability in task_probabilities.items():
            row = self._add_row(task)
            self._n_scores[row] += probability
            weights[task] = probability * precision
            if len(coefficients) == 1:
                sums = near.of(task, next(iter(coefficients)))
                sums.scale *= self._growth
                self.overflows |= sums.scale > _MAX_SCALE
                weights[task] *= sums.scale
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
        near = self._neighbourhood(neighbourhood)
        for task, weight in weights.items():
            row = self._add_row(task)
            matrix, vector = self._information_matrix[row], self._information_vector[row]
            if len(coefficients) == 1:
                ((a, _),) = coefficients.items()
                precision, weighted = near.of(task, a).add(weight, residual, near.apart)
                matrix[a, a] += precision
                vector[a] += weighted
            else:
                for a, left in coefficients.items():
                    vector[a] += weight * residual * left
                    for b, right in coefficients.items():
                        matrix[a, b] += weight * (left * right)
            self._stale.add(row)
        self._overall = None

    def release(self, neighbourhood: int | None) -> None:
        """A score that `add` added will not be subtracted; a neighbourhood without any other is forgotten.

        What its scores say of their tasks stays. So there are at most as many neighbourhoods as scores that may be subtracted.
        """
        near = self._neighbourhoods[neighbourhood]
        near.held -= 1
        if near.apart and not near.held:
            del self._neighbourhoods[neighbourhood]

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

    def prior_variance(self, task_probabilities: Mapping[int, float]) -> Array:
        """(m,) of the effects on a prompt of these tasks before any score."""
        overall, total = self._prior.overall_covariance, sum(task_probabilities.values())
        out = np.zeros(len(self._prior.covariance))
        for task, share in task_probabilities.items():
            loading, covariance = self._task_prior(task)
            out += share / total * np.diag(covariance + loading @ overall @ loading.T)
        return out

    def _on_prompt(self, task: int, neighbourhood: int | None, overall: Gaussian) -> Gaussian:
        """theta of a task, and gamma of a neighbourhood in it where that has scores."""
        effect = self._task(task, overall)
        near = None if neighbourhood is None else self._neighbourhoods.get(neighbourhood)
        return effect if near is None else Gaussian(*near.posterior(task, effect.mean, effect.covariance))

    def overall(self) -> Gaussian:
        """The overall effects mu, and behind these the embeddings of new models, see `Prior`."""
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
        near = [(-1 if key is None else key, of) for key, of in self._neighbourhoods.items()]
        return [
            np.array(list(self._row)),
            self._information_matrix,
            self._information_vector,
            self._n_scores,
            np.array([(key, *at) for key, of in near for at in of.sums]),
            np.array([(sums.scale, sums.precision, sums.weighted) for _, of in near for sums in of.sums.values()]),
        ]

    def _neighbourhood(self, neighbourhood: int | None) -> Neighbourhood:
        found = self._neighbourhoods.get(neighbourhood)
        if found is None:
            found = self._neighbourhoods[neighbourhood] = Neighbourhood(apart=True)
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
        return np.eye(*self._loading.shape[1:]), self._prior.covariance

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
