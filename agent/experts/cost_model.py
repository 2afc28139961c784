"""Expected cost of a request at each model: ridge regression of log USD on the trunk, corrected to be unbiased in USD."""

from __future__ import annotations

import numpy as np

from agent.experts.general_heads import Trunk, ridge, ridge_weights
from agent.types import UPPER, UPPER_RATIO, Array

STRENGTHS = np.geomspace(0.01, 1000.0, 11)
"""Ridge strengths tried."""

COST_PENALTIES = (0.0, 0.01, 0.05)
"""Cost penalties of the pool's mean cost, in units of quality, for which the heads are fitted."""

_LEAST_USD = 1e-9
_ROUNDS = 4
_MIN_COSTS = 20
"""With fewer costs of a model, their upper quantile is taken to be `UPPER_RATIO`, and of more prompts none is relied on."""


def mean_costs(costs: Array) -> Array:
    """(m,) USD, from (n, m) with NaN where unknown; a model without a cost gets the mean of the others."""
    known = ~np.isnan(costs)
    count = known.sum(axis=0)
    mean = np.where(known, costs, 0.0).sum(axis=0) / np.maximum(count, 1)
    others = float(mean[count > 0].mean()) if known.any() else 0.0
    return np.where(count > 0, mean, others)


def cost_penalties(costs: Array | None, models: int) -> list[Array]:
    """Cost penalties (lambda x cost) of the models, (m,) for each of `COST_PENALTIES`; zeros where no cost is known."""
    if costs is None or not (mean := mean_costs(costs)).any():
        return [np.zeros(models)]
    return [penalty * mean / mean.mean() for penalty in COST_PENALTIES]


def fit_cost_model(trunk: Trunk, costs: Array | None) -> dict[str, Array]:
    """The tensors of the cost model, from (n, m) USD of training prompts; empty where no cost is known.

    Where a cost is not known, the estimate so far stands in, with the prompt's effect on the costs that are. ``cost_weight``
    (r + 1, m) is of log USD on the trunk's features, the intercept last; ``cost_range`` (2, m) bounds it. ``cost_upper``
    (m,) is what nine of ten costs stay within, as a multiple of the expected one; 0 where fewer than `_MIN_COSTS` costs of
    the model are known, of more prompts: then they are not relied on.
    """
    if costs is None or np.isnan(costs).all():
        return {}
    known = ~np.isnan(costs)
    count = known.sum(axis=0)
    mean = mean_costs(costs)
    logs = np.log(np.maximum(np.where(known | (count == 0), np.where(known, costs, mean), 1.0), _LEAST_USD))
    level = np.where(count > 0, np.where(known, logs, 0.0).sum(axis=0) / np.maximum(count, 1), logs[0])
    oof = np.zeros(costs.shape)
    for _ in range(1 if known.all() else _ROUNDS):
        gap = np.where(known, logs - level - oof, 0.0)
        prompt_effect = gap.sum(axis=1, keepdims=True) / (known.sum(axis=1, keepdims=True) + 1.0)
        target = np.where(known, logs - level, np.where(count > 0, oof + prompt_effect, 0.0))
        oof, strength = ridge(trunk, target, known.astype(np.float64), STRENGTHS)
    expected = np.exp(level + oof)
    of_known = np.where(known, expected, 0.0).sum(axis=0) / np.maximum(count, 1)
    smear = np.log(np.maximum(mean, _LEAST_USD) / np.where(count > 0, of_known, expected.mean(axis=0)))
    weight = np.concatenate([ridge_weights(trunk, target, strength), (level + smear)[None]])
    enough = count >= min(_MIN_COSTS, len(costs))  # smear: from mean of logs to log of mean
    return {
        "cost_weight": weight,
        "cost_range": np.quantile(level + target, (0.001, 0.999), axis=0) + smear,
        "cost_upper": np.where(enough, _upper(costs, np.exp(level + smear + oof)), 0.0),
    }


def _upper(costs: Array, expected: Array) -> Array:
    """(m,) see `fit_cost_model`, from (n, m) costs and their out-of-fold estimates."""
    ratio = costs / expected
    known = np.isfinite(ratio)
    ratio = np.where(known, ratio, np.nan)
    spread = [
        float(np.quantile(r[k], UPPER)) if k.sum() >= _MIN_COSTS else UPPER_RATIO for r, k in zip(ratio.T, known.T)
    ]
    return np.where(known.any(axis=0), spread, 0.0)
