"""Neighbourhood effects: how far models do better or worse on one kind of prompt than on the rest of its task.

The effects of a neighbourhood (`agent.index.prompts`) on the models are gamma ~ N(0, g), beside theta of its task
(`agent.online.effects`). g is 0 for most and large for few (a spike and a slab), and is replaced by its
mean given the neighbourhood's scores; with that, all is Gaussian, and a function of sums over scores.
"""

from __future__ import annotations

import math

import numpy as np

from agent.types import Array

SHARE, VARIANCE = 0.005, 0.25
"""Prior share of a neighbourhood's effects on the models that are not 0, and their variance (a spike and a slab, Mitchell &
Beauchamp 1988): a few scores change nothing but the task, a dozen alike are a kind of prompt of its own."""


class ModelSums:
    """Sums over the scores of one model in one neighbourhood and task.

    ``precision`` and ``weighted`` are in units of ``scale``: later scores are scaled up where earlier ones would be decayed.
    ``theta_precision`` and ``theta_weighted`` are their information on theta, gamma integrated out. ``variance`` is that of
    gamma given the scores.
    """

    __slots__ = ("precision", "scale", "theta_precision", "theta_weighted", "variance", "weighted")

    def __init__(self) -> None:
        self.precision, self.weighted, self.scale, self.variance = 0.0, 0.0, 1.0, 0.0
        self.theta_precision, self.theta_weighted = 0.0, 0.0

    def add(self, precision: float, residual: float, apart: bool) -> tuple[float, float]:
        """Add a score of scaled ``precision``; by how much precision and vector on theta change."""
        self.precision += precision
        self.weighted += precision * residual
        total, weighted = self.precision / self.scale, self.weighted / self.scale
        self.variance = neighbourhood_variance(total, weighted) if apart else 0.0
        damp = 1.0 + self.variance * total
        before = self.theta_precision, self.theta_weighted
        self.theta_precision, self.theta_weighted = total / damp, weighted / damp
        return self.theta_precision - before[0], self.theta_weighted - before[1]


class Neighbourhood:
    """Sums over the scores of one neighbourhood, of the tasks and models that it has scores of.

    Parameters
    ----------
    apart
        Whether its effects may differ from those of its tasks; if not, its scores count for the tasks alone.

    Attributes
    ----------
    sums
        (task, model) -> its sums.
    held
        Scores that may still be subtracted.
    """

    __slots__ = ("apart", "held", "sums")

    def __init__(self, apart: bool) -> None:
        self.sums: dict[tuple[int, int], ModelSums] = {}
        self.apart, self.held = apart, 0

    def of(self, task: int, model: int) -> ModelSums:
        """The sums of a model in a task."""
        key = (task, model)
        if (found := self.sums.get(key)) is None:
            found = self.sums[key] = ModelSums()
        return found

    def posterior(self, task: int, mean: Array, covariance: Array) -> tuple[Array, Array]:
        """Mean (m,) and covariance (m, m) of theta + gamma in ``task``, given those of theta, which knows these scores.

        The variance of gamma is left out of the covariance, as that of single prompts is.
        """
        left, mean = np.ones(len(mean)), mean.copy()  # (m,) share of theta that is left
        for (of, model), sums in self.sums.items():
            if of == task:
                left[model] = 1.0 / (1.0 + sums.variance * sums.precision / sums.scale)
                mean[model] += sums.variance * sums.weighted / sums.scale
        return left * mean, covariance * np.outer(left, left)


def neighbourhood_variance(precision: float, weighted: float) -> float:
    """Variance of a neighbourhood's effect on a model, given its scores' precision and information vector.

    It is that of the slab times the posterior probability that the effect is of the slab.

    Examples
    --------
    >>> [round(neighbourhood_variance(3.0 * n, -0.6 * 3.0 * n), 3) for n in (1, 5, 20)]
    [0.001, 0.005, 0.242]
    """
    damp = 1.0 + VARIANCE * precision
    odds = SHARE / (1.0 - SHARE) / math.sqrt(damp)
    evidence = min(0.5 * VARIANCE * weighted**2 / damp, 50.0)
    odds *= math.exp(evidence)
    return VARIANCE * odds / (1.0 + odds)
