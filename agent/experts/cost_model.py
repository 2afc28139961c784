"""What a request will cost at each model, learned on the heads' trunk: ridge on the logarithm, unbiased in the mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.experts.general_heads import ridge
from agent.experts.trunk import Trunk
from agent.types import Array

STRENGTHS = np.geomspace(0.01, 1000.0, 11)
COMPETING = (0.0, 0.01, 0.05)
"""Qualities that the pool's mean cost is worth, at which competition is judged beside no cost at all."""

_LEAST_USD = 1e-9


def mean_costs(costs: Array) -> Array:
    """(m,) USD, from (n, m) with NaN where unknown; a model never priced costs what the others do."""
    known = ~np.isnan(costs)
    count = known.sum(axis=0)
    mean = np.where(known, costs, 0.0).sum(axis=0) / np.maximum(count, 1)
    others = float(mean[count > 0].mean()) if known.any() else 0.0
    return np.where(count > 0, mean, others)


def cost_penalties(costs: Array | None, models: int) -> list[Array]:
    """Costs in units of quality, (m,) each, at which models may have to compete; nothing where no cost is known."""
    if costs is None or not (mean := mean_costs(costs)).any():
        return [np.zeros(models)]
    return [worth * mean / mean.mean() for worth in COMPETING]


def fit_cost_model(trunk: Trunk, costs: Array | None) -> dict[str, Array]:
    """``cost_weight`` (r + 1, m) over the trunk's features, the level last, of log USD; ``cost_range`` (2, m) that it keeps to.

    Empty where no cost is known.
    """
    if costs is None or np.isnan(costs).all():
        return {}
    mean = mean_costs(costs)
    logs = np.log(np.maximum(np.where(np.isnan(costs), mean, costs), _LEAST_USD))
    level = logs.mean(axis=0)
    oof, penalty = ridge(trunk, logs - level, np.ones(logs.shape), STRENGTHS)
    shrink = np.where(np.isfinite(penalty), 1.0 / (trunk.power[:, None] + penalty), 0.0)
    slope = (trunk.basis.T @ (logs - level)) * np.sqrt(trunk.power)[:, None] * shrink
    smear = np.log(np.maximum(mean, _LEAST_USD) / np.exp(level + oof).mean(axis=0))
    bounds: Sequence[Array] = [np.quantile(logs, q, axis=0) + smear for q in (0.001, 0.999)]
    return {"cost_weight": np.concatenate([slope, (level + smear)[None]]), "cost_range": np.stack(bounds)}
