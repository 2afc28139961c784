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
_MIN_COSTS = 20
"""With fewer costs of a model, their upper quantile is taken to be `UPPER_RATIO`."""


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

    ``cost_weight`` (r + 1, m) is of log USD on the trunk's features, the intercept last; ``cost_range`` (2, m) bounds it.
    ``cost_upper`` (m,) is what nine of ten costs stay within, as a multiple of the expected one; 0 where no cost of the
    model is known.
    """
    if costs is None or np.isnan(costs).all():
        return {}
    mean = mean_costs(costs)
    logs = np.log(np.maximum(np.where(np.isnan(costs), mean, costs), _LEAST_USD))
    level = logs.mean(axis=0)
    oof, strength = ridge(trunk, logs - level, np.ones(logs.shape), STRENGTHS)
    smear = np.log(np.maximum(mean, _LEAST_USD) / np.exp(level + oof).mean(axis=0))  # from mean of logs to log of mean
    weight = np.concatenate([ridge_weights(trunk, logs - level, strength), (level + smear)[None]])
    return {
        "cost_weight": weight,
        "cost_range": np.quantile(logs, (0.001, 0.999), axis=0) + smear,
        "cost_upper": _upper(costs, np.exp(level + smear + oof)),
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
