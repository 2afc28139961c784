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


class Neighbourhood:
    """Sums over the scores of one neighbourhood in one task; all (m,).

    ``precision`` and ``weighted`` are in units of ``scale``: a model's later scores are scaled up where earlier ones would be
    decayed. ``message`` (2, m) is their information on theta, gamma integrated out: precision and vector. ``variance``
    is that of gamma given the scores, independent by model; 0 for scores that count for the task alone.
    """

    __slots__ = ("apart", "message", "precision", "scale", "variance", "weighted")

    def __init__(self, models: int, apart: bool) -> None:
        self.precision, self.weighted, self.message = np.zeros(models), np.zeros(models), np.zeros((2, models))
        self.scale, self.variance, self.apart = np.ones(models), np.zeros(models), apart

    def grow(self, model: int, growth: float) -> float:
        """The scale of the model's next score."""
        self.scale[model] *= growth
        return float(self.scale[model])

    def add(self, model: int, precision: float, residual: float) -> tuple[float, float]:
        """Add a score of scaled ``precision``; by how much the message on theta changes."""
        scale = float(self.scale[model])
        self.precision[model] += precision
        self.weighted[model] += precision * residual
        total, weighted = float(self.precision[model]) / scale, float(self.weighted[model]) / scale
        variance = neighbourhood_variance(total, weighted) if self.apart else 0.0
        damp = 1.0 + variance * total
        before = self.message[:, model].tolist()
        self.variance[model] = variance
        self.message[:, model] = total / damp, weighted / damp
        return total / damp - before[0], weighted / damp - before[1]

    def posterior(self, mean: Array, covariance: Array) -> tuple[Array, Array]:
        """Mean (m,) and covariance (m, m) of theta + gamma, given those of theta, which knows these scores.

        The variance of gamma is left out of the covariance, as that of single prompts is.
        """
        left = 1.0 / (1.0 + self.variance * self.precision / self.scale)  # (m,) share of theta that is left
        return left * (mean + self.variance * self.weighted / self.scale), covariance * np.outer(left, left)


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
