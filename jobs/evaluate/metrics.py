"""Quality and cost of the models that a router chooses, and whether two routers differ by more than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.types import Array
from jobs.evaluate.table import Table

COST_LEVELS = (100, 99, 98, 95)
"""Percentages of the best single model's quality at which costs are compared."""

RELATIVE_COST_WEIGHTS = np.concatenate([[0.0], np.geomspace(1e-5, 1e2, 281)])
"""Values of lambda along the cost-quality curve, times the mean cost of a request in training."""

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class RouterResult:
    """What one router's choices are worth on n test prompts.

    Parameters
    ----------
    quality
        (n,) score of the chosen model, with costs ignored.
    cost
        (n,) USD of the chosen model's answer; NaN where unknown.
    curve
        (p, 2) mean cost and mean quality as lambda rises; empty where costs are unknown.
    """

    quality: Array
    cost: Array
    curve: Array


def macro(values: Array, sources: NDArray[np.str_]) -> float:
    """Mean over sources of the mean over each source's prompts."""
    return float(np.mean(list(per_source(values, sources).values())))


def per_source(values: Array, sources: NDArray[np.str_]) -> dict[str, float]:
    """Mean over each source's prompts."""
    return {str(s): float(values[sources == s].mean()) for s in np.unique(sources)}


def route(test: Table, utility: Array) -> tuple[Array, Array]:
    """Quality and cost, (n,) each, of choosing the highest (n, m) ``utility`` among the models scored on each prompt."""
    choice = np.where(np.isnan(test.scores), -np.inf, utility).argmax(axis=1)
    rows = np.arange(len(test))
    return test.scores[rows, choice], test.costs[rows, choice]


def sweep(
    test: Table,
    quality: Array,
    cost: Array | None,
    unit: float,
    shrink_to_mean: Callable[[Array, float], Array] = lambda quality, _: quality,
) -> RouterResult:
    """Route by estimates at every lambda of the cost-quality curve.

    Parameters
    ----------
    test
        What is routed; a row needs at least one score.
    quality, cost
        (n, m) estimates; ``utility = quality - lambda * cost``. A cost of None means that none is known.
    unit
        Mean USD of a request in training; lambda is a `RELATIVE_COST_WEIGHTS` divided by it.
    shrink_to_mean
        Maps ``quality`` and lambda times ``unit`` to the qualities that the choice reads.
    """
    best, paid = route(test, shrink_to_mean(quality, 0.0))
    if cost is None or not test.has_costs:
        return RouterResult(best, paid, np.empty((0, 2)))
    curve = []
    for weight in RELATIVE_COST_WEIGHTS:
        q, c = route(test, shrink_to_mean(quality, weight) - weight / unit * cost)
        curve.append((float(np.nanmean(c)), float(q.mean())))
    return RouterResult(best, paid, np.array(curve))


def cost_at(result: RouterResult, quality: float, cost: float) -> dict[str, float | None]:
    """By level of `COST_LEVELS`: the least cost on the curve that reaches so many percent of ``quality``, divided by ``cost``.

    None where no point of the curve reaches it.
    """
    found: dict[str, float | None] = {}
    for level in COST_LEVELS:
        enough = result.curve[result.curve[:, 1] >= level / 100 * quality - 1e-12]
        found[str(level)] = float(enough[:, 0].min() / cost) if len(enough) and cost > 0 else None
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference with its 95 % interval; ``p`` is the share of resamples in which it is not above zero."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap(ours: Array, theirs: Array, strata: NDArray[np.str_] | None, seed: int) -> Difference:
    """Paired bootstrap of the difference of two routers' qualities on the same prompts.

    Parameters
    ----------
    ours, theirs
        (n,) qualities.
    strata
        (n,) sources: the macro mean, resampled within each source; None: the micro mean.
    """
    rng = np.random.default_rng(seed)
    difference = ours - theirs
    groups = [difference] if strata is None else [difference[strata == s] for s in np.unique(strata)]
    means = np.zeros(RESAMPLES)
    for group in groups:
        # Draw counts instead of indices: one (resamples, distinct values) matrix however long the group is.
        values, counts = np.unique(group, return_counts=True)
        drawn = rng.multinomial(len(group), counts / len(group), size=RESAMPLES)
        means += drawn @ values / len(group)
    means /= len(groups)
    observed = float(np.mean([group.mean() for group in groups]))
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(observed, float(low), float(high), float((means <= 0).mean()))
