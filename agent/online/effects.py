"""A Gaussian bank of tasks: how far every model is from what is expected of it, as one exact posterior.

Task c has a vector over the models, ``theta_c = K_c mu + delta_c``: ``mu ~ N(0, L)`` is what all tasks share, as far as
the task is not known by its own scores (K), and ``delta_c ~ N(0, S_c)`` the task's own. A score reads one entry of theta
through noise, a comparison of two models the difference of two. Models that rise and fall together on tasks do so in S,
so a score of one informs on the others; a score on one task informs the others through mu.

The posterior is a closed form of sums, an information matrix and vector a task: no order matters in them, and what was
added can be taken back exactly. (Bishop 2006, section 2.3.3; the two levels are those of a linear mixed model.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.online.prior import Prior, _posteriors
from agent.types import Array


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Mean (m,) and covariance (m, m) of some models' distance from what was expected of them."""

    mean: Array
    covariance: Array


class TaskEffects:
    """The posterior over every task.

    Parameters
    ----------
    prior
        What was open before.
    tasks
        Ids of its rows; any other id stands for a task of which nothing is known.
    memory
        Scores of one task after which an old one weighs 1/e.

    Examples
    --------
    >>> bank = TaskEffects(Prior(0.1 * np.eye(2), 0.01 * np.eye(2), np.zeros((1, 2)), np.full((1, 2), 0.5)), (7,))
    >>> for _ in range(50):
    ...     _ = bank.add({7: 1.0}, {0: 1.0}, residual=-0.5, precision=4.0)
    >>> bank.posterior({7: 1.0}).mean.round(1).tolist()
    [-0.5, 0.0]
    """

    def __init__(self, prior: Prior, tasks: Sequence[int], memory: float = 2000.0) -> None:
        self._prior = prior
        self._known = {task: row for row, task in enumerate(tasks)}
        self._growth = 1.0 / (1.0 - 1.0 / memory)
        self._size = len(prior.level)
        self._rows: dict[int, int] = {}
        m = self._size
        self._loading, self._spread = np.zeros((0, m, m)), np.zeros((0, m, m))
        self._information, self._weighted = np.zeros((0, m, m)), np.zeros((0, m))
        self._clock, self._count = np.zeros(0), np.zeros(0)
        self._pull, self._gain = np.zeros((0, m, m)), np.zeros((0, m))
        self._level_pull, self._level_gain = np.zeros((0, m, m)), np.zeros((0, m))
        self._stale: set[int] = set()
        self._level: Gaussian | None = Gaussian(np.zeros(m), prior.level)
        self._beliefs: dict[int, Gaussian] = {}

    def add(
        self, shares: Mapping[int, float], coefficients: Mapping[int, float], residual: float, precision: float
    ) -> dict[int, float]:
        """Take one reading in.

        Parameters
        ----------
        shares
            task -> membership of the prompt.
        coefficients
            model -> coefficient: ``{m: 1}`` for a score, ``{a: 1, b: -1}`` for a comparison.
        residual
            What was read less what was expected.
        precision
            One over the variance of its noise.

        Returns
        -------
        dict
            task -> weight it was added with: `put` with their negatives takes it back.
        """
        weights = {}
        for task, share in shares.items():
            row = self._row(task)
            self._clock[row] *= self._growth
            self._count[row] += share
            weights[task] = share * precision * self._clock[row]
        self.put(weights, coefficients, residual)
        return weights

    def put(self, weights: Mapping[int, float], coefficients: Mapping[int, float], residual: float) -> None:
        """Add a reading with the ``weights`` of an earlier one, as of its time."""
        at, values = np.array(list(coefficients)), np.array(list(coefficients.values()))
        outer = np.outer(values, values)
        for task, weight in weights.items():
            row = self._row(task)
            self._information[row][np.ix_(at, at)] += weight * outer
            self._weighted[row, at] += weight * residual * values
            self._stale.add(row)
        self._level = None

    def posterior(self, shares: Mapping[int, float]) -> Gaussian:
        """What is known of a prompt with these memberships, at least one, which need not sum to one."""
        self._settle()
        if len(shares) == 1:
            return self._task(next(iter(shares)))
        total = sum(shares.values())
        parts = [(share / total, self._task(task)) for task, share in shares.items()]
        return Gaussian(
            np.sum([s * b.mean for s, b in parts], axis=0), np.sum([s * b.covariance for s, b in parts], axis=0)
        )

    def level(self) -> Gaussian:
        """What is known of the models over all tasks."""
        self._settle()
        assert self._level is not None
        return self._level

    def count(self, shares: Mapping[int, float]) -> float:
        """Readings of these tasks, each as far as the prompt belongs to it."""
        return float(sum(share * self._count[self._rows[t]] for t, share in shares.items() if t in self._rows))

    @property
    def overdue(self) -> bool:
        """Whether old readings weigh so little beside new ones that the sums should be made anew."""
        return bool((self._clock > 1e100).any())

    def parts(self) -> list[Array]:
        """The arrays that the state consists of."""
        return [np.array(list(self._rows)), self._information, self._weighted, self._clock, self._count]

    def _row(self, task: int) -> int:
        row = self._rows.get(task)
        if row is None:
            row = self._rows[task] = len(self._rows)
            loading, spread = self._open(task)
            self._loading = np.concatenate([self._loading, loading[None]])
            self._spread = np.concatenate([self._spread, spread[None]])
            for name in ("_information", "_weighted", "_pull", "_gain", "_level_pull", "_level_gain", "_count"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros((1, *array.shape[1:]))]))
            self._clock = np.append(self._clock, 1.0)
        return row

    def _open(self, task: int) -> tuple[Array, Array]:
        if task in self._known:
            return self._prior.task(self._known[task])
        return np.eye(self._size), self._prior.spread

    def _settle(self) -> None:
        """Bring the posteriors up to the sums."""
        if self._level is not None:
            return
        for row in self._stale:
            scale = self._clock[row]
            information, weighted = self._information[row] / scale, self._weighted[row] / scale
            _, self._gain[row], self._pull[row] = _posteriors(self._spread[row], information, weighted)
            loading = self._loading[row]
            self._level_gain[row], self._level_pull[row] = (
                loading.T @ self._gain[row],
                loading.T @ self._pull[row] @ loading,
            )
        self._stale.clear()
        self._beliefs.clear()
        covariance = np.linalg.inv(np.linalg.inv(self._prior.level) + self._level_pull.sum(axis=0))
        self._level = Gaussian(covariance @ self._level_gain.sum(axis=0), covariance)

    def _task(self, task: int) -> Gaussian:
        posterior = self._beliefs.get(task)
        if posterior is None:
            assert self._level is not None
            level, row = self._level, self._rows.get(task)
            if row is None:
                loading, spread = self._open(task)
                posterior = Gaussian(loading @ level.mean, spread + loading @ level.covariance @ loading.T)
            else:
                spread, pull = self._spread[row], self._pull[row]
                reach = self._loading[row] - spread @ pull @ self._loading[row]
                posterior = Gaussian(
                    reach @ level.mean + spread @ self._gain[row],
                    spread - spread @ pull @ spread + reach @ level.covariance @ reach.T,
                )
            self._beliefs[task] = posterior
        return posterior
