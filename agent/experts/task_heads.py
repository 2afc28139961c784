"""Candidate models of a task, and their task heads: the second phase of stage 2.

The candidate set is the fewest top models that cover the task (arXiv 2603.19415, sec. 3.2): the shortest prefix of the
models, best mean first, that holds the preferred model of more than ``coverage`` of the task's prompts; and, since means err,
any model whose mean lies within standard errors of the prefix's worst.

A task head is how a candidate deviates from its general head: low-rank, an intercept and a slope on each of the trunk's
leading features, by ridge regression of the general heads' residuals. A task's heads count by the factor alpha that their
leave-one-out estimates deserve, and not at all where their gain is within its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.examples import Scores
from agent.experts.general_heads import Trunk
from agent.types import Array

COVERAGE = 0.8


def candidate_set(
    preferred: NDArray[np.int64], mean: NDArray[np.float64], stderr: NDArray[np.float64], coverage: float = COVERAGE
) -> tuple[int, ...]:
    """Columns of the candidate models, best mean first.

    Parameters
    ----------
    preferred
        (prompts of the task,) column of the model that does best on each prompt.
    mean, stderr
        (m,) of the task.
    coverage
        Share of prompts, in (0, 1], that must be exceeded.

    Examples
    --------
    >>> candidate_set(np.array([0, 0, 0, 1]), np.array([0.9, 0.5, 0.1]), np.zeros(3), coverage=0.7)
    (0,)
    >>> candidate_set(np.array([0, 0, 0, 1]), np.array([0.9, 0.5, 0.1]), np.zeros(3), coverage=0.8)
    (0, 1)
    """
    order = np.argsort(-mean, kind="stable")
    share = np.bincount(preferred, minlength=len(mean))[order].cumsum() / max(len(preferred), 1)
    enough = np.flatnonzero(share > coverage)
    count = int(enough[0]) + 1 if len(enough) else len(mean)
    worst = order[count - 1]
    floor = mean[worst] - stderr[worst]
    return tuple(int(m) for i, m in enumerate(order) if i < count or mean[m] + stderr[m] >= floor)


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
