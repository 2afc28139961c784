"""Task heads: what a task's candidate models do otherwise than the general heads foretell.

A head is low-rank: a level and a slope along the trunk's few leading features, shrunk towards nothing. Trunk and general
heads are frozen. A task's heads are believed (alpha) as far as they foretell scores that they never saw, and not at all
where what they gain is within its own noise.
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
"""Ridge penalties tried, in scores."""


@dataclass(frozen=True, slots=True)
class TaskHeads:
    """Task heads: ``basis`` (r + 1, q) from the trunk's features, ``weights`` (T, q, m), (T,) ``alpha``, (n, m) ``oof``."""

    basis: Array
    weights: Array
    alpha: Array
    oof: Array


def fit_task_heads(
    trunk: Trunk, scores: Scores, general: Array, labels: NDArray[np.int64], candidates: list[tuple[int, ...]]
) -> TaskHeads:
    """Fit the task heads.

    Parameters
    ----------
    trunk
        Frozen.
    scores
        Of the training prompts.
    general
        (n, m) the general heads' left-out estimate.
    labels
        (n,) task of each prompt.
    candidates
        By task, the columns of the models that get a head.
    """
    n, m = general.shape
    tasks, rank = len(candidates), min(RANK, trunk.basis.shape[1])
    basis = np.zeros((trunk.weight.shape[1] + 1, rank + 1))
    basis[np.arange(rank), np.arange(rank)] = np.sqrt(n / trunk.power[:rank])
    basis[-1, -1] = 1.0
    read = np.concatenate([trunk.basis[:, :rank] * np.sqrt(n), np.ones((n, 1))], axis=1)  # (n, q)
    allowed = np.zeros((tasks, m), bool)
    for task, columns in enumerate(candidates):
        allowed[task, list(columns)] = True
    score_weight = scores.score_weight * allowed[labels]
    value = scores.residual(general) * allowed[labels]
    fits = [_solve(read, value, score_weight, labels, tasks, strength) for strength in STRENGTHS]
    weights, oof = min(fits, key=lambda fit: float((score_weight * (value - fit[1]) ** 2).sum()))
    alpha = fit_alpha(value, oof, score_weight, labels, tasks)
    return TaskHeads(basis, weights, alpha, alpha[labels][:, None] * oof)


def fit_alpha(residual: Array, estimate: Array, score_weight: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(T,) alpha in [0, 1]: the least-squares weight of ``estimate`` on ``residual`` by task, shrunk to that of all tasks.

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
    read: Array, value: Array, score_weight: Array, labels: NDArray[np.int64], tasks: int, strength: float
) -> tuple[Array, Array]:
    """(T, q, m) codes and (n, m) leave-one-out estimates of ridge by (task, model)."""
    weights = np.zeros((tasks, read.shape[1], value.shape[1]))
    oof = np.zeros_like(value)
    for task in range(tasks):
        rows = np.flatnonzero(labels == task)
        a, w, y = read[rows], score_weight[rows], value[rows]  # (p, q), (p, m), (p, m)
        gram = (a.T * w.T[:, None, :]) @ a + strength * np.eye(a.shape[1])  # (m, q, q)
        inverse = np.linalg.inv(gram)
        weights[task] = (inverse @ (a.T @ (w * y)).T[:, :, None])[:, :, 0].T
        leverage = ((a @ inverse) * a).sum(axis=2).T * w  # (p, m)
        fitted = a @ weights[task]
        oof[rows] = np.where(w > 0, y - (y - fitted) / np.maximum(1.0 - leverage, 0.02), fitted)
    return weights, oof
