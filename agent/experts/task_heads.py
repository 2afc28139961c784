"""Task heads: how a task's candidate models deviate from the general heads; the second phase of stage 2.

A head is low-rank: an intercept and a slope on each of the trunk's leading features, by ridge regression of the general
heads' residuals; trunk and general heads are frozen. A task's heads count by the factor alpha that their leave-one-out
estimates deserve, and not at all where their gain is within its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.examples import Scores
from agent.experts.trunk import Trunk
from agent.types import Array

RANK = 8
"""Leading features of the trunk that a task head reads."""

STRENGTHS = (3.0, 10.0, 30.0, 100.0)
"""Ridge strengths tried, in scores."""


@dataclass(frozen=True, slots=True)
class TaskHeads:
    """``basis`` (r + 1, q) gives a head's inputs from the trunk's features; ``alpha`` (T,) in [0, 1].

    ``weights`` (T, q, m) of the heads and leave-one-out estimates ``oof`` (n, m) are times alpha.
    """

    basis: Array
    weights: Array
    alpha: Array
    oof: Array


def fit_task_heads(
    trunk: Trunk, scores: Scores, general: Array, labels: NDArray[np.int64], candidates: list[tuple[int, ...]]
) -> TaskHeads:
    """Fit the task heads to the ``scores`` of the training prompts.

    ``general`` (n, m) are the general heads' leave-one-out estimates, ``labels`` (n,) the prompts' tasks, and ``candidates``
    by task the columns of the models that get a head.
    """
    n, m = general.shape
    tasks, rank = len(candidates), min(RANK, trunk.basis.shape[1])
    basis = np.zeros((trunk.weight.shape[1] + 1, rank + 1))
    basis[np.arange(rank), np.arange(rank)] = np.sqrt(n / trunk.power[:rank])
    basis[-1, -1] = 1.0
    inputs = np.concatenate([trunk.basis[:, :rank] * np.sqrt(n), np.ones((n, 1))], axis=1)  # (n, q)
    allowed = np.zeros((tasks, m), bool)
    for task, columns in enumerate(candidates):
        allowed[task, list(columns)] = True
    score_weight = scores.score_weight * allowed[labels]
    residual = scores.residual(general) * allowed[labels]
    fits = [_solve(inputs, residual, score_weight, labels, tasks, strength) for strength in STRENGTHS]
    weights, oof = min(fits, key=lambda fit: float((score_weight * (residual - fit[1]) ** 2).sum()))
    alpha = fit_alpha(residual, oof, score_weight, labels, tasks)
    return TaskHeads(basis, weights * alpha[:, None, None], alpha, alpha[labels][:, None] * oof)


def fit_alpha(residual: Array, estimate: Array, score_weight: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(T,) alpha in [0, 1]: the least-squares factor of ``estimate`` for ``residual`` by task, shrunk to that of all tasks.

    0 where a task's gain does not exceed its standard error, and everywhere if that of all tasks together does not.
    """
    gain, power = (score_weight * residual * estimate).sum(axis=1), (score_weight * estimate**2).sum(axis=1)
    if gain.sum() <= np.sqrt((gain**2).sum()):
        return np.zeros(tasks)
    overall = gain.sum() / max(power.sum(), 1e-12)
    by_gain, by_power = np.bincount(labels, gain, tasks), np.bincount(labels, power, tasks)
    strength = power.sum() / tasks
    alpha = np.clip((by_gain + strength * overall) / (by_power + strength + 1e-12), 0.0, 1.0)
    return np.where(by_gain > np.sqrt(np.bincount(labels, gain**2, tasks)), alpha, 0.0)


def _solve(
    inputs: Array, residual: Array, score_weight: Array, labels: NDArray[np.int64], tasks: int, strength: float
) -> tuple[Array, Array]:
    """(T, q, m) weights and (n, m) leave-one-out estimates of ridge regression by (task, model)."""
    weights = np.zeros((tasks, inputs.shape[1], residual.shape[1]))
    oof = np.zeros_like(residual)
    for task in range(tasks):
        rows = np.flatnonzero(labels == task)
        a, w, y = inputs[rows], score_weight[rows], residual[rows]  # (p, q), (p, m), (p, m)
        gram = (a.T * w.T[:, None, :]) @ a + strength * np.eye(a.shape[1])  # (m, q, q)
        inverse = np.linalg.inv(gram)
        weights[task] = (inverse @ (a.T @ (w * y)).T[:, :, None])[:, :, 0].T
        leverage = ((a @ inverse) * a).sum(axis=2).T * w  # (p, m)
        fitted = a @ weights[task]
        oof[rows] = np.where(w > 0, y - (y - fitted) / np.maximum(1.0 - leverage, 0.02), fitted)
    return weights, oof
