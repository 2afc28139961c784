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
class Experts:
    """Task heads: ``basis`` (r + 1, q) from the trunk's features, ``codes`` (T, q, m), (T,) ``alpha``, (n, m) ``held_out``."""

    basis: Array
    codes: Array
    alpha: Array
    held_out: Array


def train_experts(
    trunk: Trunk, scores: Scores, general: Array, labels: NDArray[np.int64], candidates: list[tuple[int, ...]]
) -> Experts:
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
    trust = scores.trust * allowed[labels]
    value = scores.residual(general) * allowed[labels]
    fits = [_solve(read, value, trust, labels, tasks, strength) for strength in STRENGTHS]
    codes, held_out = min(fits, key=lambda fit: float((trust * (value - fit[1]) ** 2).sum()))
    alpha = believe(value, held_out, trust, labels, tasks)
    return Experts(basis, codes, alpha, alpha[labels][:, None] * held_out)


def believe(residual: Array, estimate: Array, trust: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(T,) alpha in [0, 1]: the least-squares weight of ``estimate`` on ``residual`` by task, shrunk to that of all tasks.

    0 where a task's gain does not exceed its standard error, and everywhere if that of all tasks together does not.
    """
    gain, power = (trust * residual * estimate).sum(axis=1), (trust * estimate**2).sum(axis=1)
    if gain.sum() <= np.sqrt((gain**2).sum()):
        return np.zeros(tasks)
    overall = gain.sum() / max(power.sum(), 1e-12)
    by_gain, by_power = np.bincount(labels, gain, tasks), np.bincount(labels, power, tasks)
    strength = power.sum() / tasks
    alpha = np.clip((by_gain + strength * overall) / (by_power + strength + 1e-12), 0.0, 1.0)
    return np.where(by_gain > np.sqrt(np.bincount(labels, gain**2, tasks)), alpha, 0.0)


def _solve(
    read: Array, value: Array, trust: Array, labels: NDArray[np.int64], tasks: int, strength: float
) -> tuple[Array, Array]:
    """(T, q, m) codes and (n, m) leave-one-out estimates of ridge by (task, model)."""
    codes = np.zeros((tasks, read.shape[1], value.shape[1]))
    held_out = np.zeros_like(value)
    for task in range(tasks):
        rows = np.flatnonzero(labels == task)
        a, w, y = read[rows], trust[rows], value[rows]  # (p, q), (p, m), (p, m)
        gram = (a.T * w.T[:, None, :]) @ a + strength * np.eye(a.shape[1])  # (m, q, q)
        inverse = np.linalg.inv(gram)
        codes[task] = (inverse @ (a.T @ (w * y)).T[:, :, None])[:, :, 0].T
        leverage = ((a @ inverse) * a).sum(axis=2).T * w  # (p, m)
        fitted = a @ codes[task]
        held_out[rows] = np.where(w > 0, y - (y - fitted) / np.maximum(1.0 - leverage, 0.02), fitted)
    return codes, held_out
