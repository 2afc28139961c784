"""Stacking: the weights of task means, heads and neighbours in an estimate (Wolpert 1992, Breiman 1996).

Non-negative least squares on out-of-fold estimates, ridge-shrunken to equal weights by the noise of the scores; weights sum
to 1. Errors are taken less the prompt's effect on all models, since only differences decide, and a model's errors count by
its competition weight on the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from agent.examples import Scores
from agent.experts.general_heads import competition_weights
from agent.tasks.means import Variances, prompt_share
from agent.types import Array

WEIGHT_SD = 0.1
"""Prior standard deviation of a weight around an equal one."""


def fit_stack(
    estimates: Sequence[Array], scores: Scores, variances: Variances, cost_penalties: Sequence[Array]
) -> Array:
    """(p,) weights, summing to 1, of p out-of-fold ``estimates`` (n, m) of ``scores`` with the given ``variances``.

    The competition weights are averaged over ``cost_penalties``, (m,) each.
    """
    plain = np.mean(estimates, axis=0)
    competition = np.mean([competition_weights(plain - p) for p in cost_penalties], axis=0)
    weight = scores.score_weight * competition / competition.max(axis=1, keepdims=True)  # the leader counts in full
    share = prompt_share(weight, variances)

    def product(left: Array, right: Array) -> float:
        shared = (weight * left).sum(axis=1) * (weight * right).sum(axis=1) * share
        return float((weight * left * right).sum() - shared.sum())

    apart, rest = [estimate - plain for estimate in estimates], scores.residual(plain)
    gram = np.array([[product(a, b) for b in apart] for a in apart])
    ridge = variances.noise / WEIGHT_SD**2
    target = np.array([product(a, rest) for a in apart]) + ridge / len(estimates)
    root = np.linalg.cholesky(gram + ridge * np.eye(len(estimates)))
    constraint = 1e3 * np.sqrt(np.trace(gram) + ridge)  # weight of the row that holds the sum at 1
    weights: Array = nnls(
        np.vstack([root.T, np.full(len(estimates), constraint)]), np.append(np.linalg.solve(root, target), constraint)
    )[0]
    weights /= weights.sum()
    return weights


def combine(weights: Array, estimates: Sequence[Array]) -> Array:
    """(n, m) weighted sum of the estimates, (n, m) each."""
    out: Array = weights[0] * estimates[0]
    for weight, estimate in zip(weights[1:], estimates[1:]):
        out += weight * estimate
    return out
