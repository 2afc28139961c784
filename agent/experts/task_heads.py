"""Candidate models of a task, and their task heads: the second phase of stage 2.

The candidate set is the fewest top models that cover the task (arXiv 2603.19415, sec. 3.2): the shortest prefix of the
models, best mean first, that holds the preferred model of more than ``coverage`` of the task's prompts; and, since means err,
any model whose mean lies within standard errors of the prefix's worst.

A task head is how a candidate deviates from its general head: low-rank, an intercept and a slope on each of the trunk's
leading features, by ridge regression of the general heads' residuals. A task's heads count by the factor alpha that their
leave-one-out estimates deserve, and not at all where their gain is within its standard error.

Where the task descends from tasks of the champion that have heads, its heads are also fitted as deviations from theirs
(`Start`), and taken so where that is better on prompts whose scores the champion did not know; only those decide its alpha.
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
class Start:
    """Heads ``weights`` (T, q, m) of the champion's tasks that each task descends from, 0 where there are none, and which
    prompts' scores the champion did not know, ``new`` (n,)."""

    weights: Array
    new: NDArray[np.bool_]

    @property
    def given(self) -> NDArray[np.bool_]:
        """(T,) which tasks have one."""
        return np.asarray(self.weights.any(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class TaskHeads:
    """``basis`` (r + 1, q) gives a head's inputs from the trunk's features; ``alpha`` (T,) in [0, 1].

    ``weights`` (T, q, m) of the heads and leave-one-out estimates ``oof`` (n, m) are times alpha; ``inherited`` (T,): which
    tasks start from their parents' heads; ``strength`` is that of the ridge regression.
    """

    basis: Array
    weights: Array
    alpha: Array
    oof: Array
    inherited: NDArray[np.bool_]
    strength: float


def head_inputs(trunk: Trunk) -> Array:
    """(n, q) inputs of the training prompts' task heads: leading features of the trunk, of mean square 1, and a 1."""
    rank = min(RANK, trunk.basis.shape[1])
    return np.concatenate(
        [trunk.basis[:, :rank] * np.sqrt(len(trunk.basis)), np.ones((len(trunk.basis), 1))], axis=1
    ).astype(np.float64)


def feature_basis(trunk: Trunk, features: int) -> Array:
    """(r + 1, features + 1) from the trunk's features and a 1 to its leading ``features``, of mean square 1, and a 1."""
    basis = np.zeros((trunk.weight.shape[1] + 1, features + 1))
    basis[np.arange(features), np.arange(features)] = np.sqrt(len(trunk.basis) / trunk.power[:features])
    basis[-1, -1] = 1.0
    return basis


def allowed_heads(candidates: list[tuple[int, ...]], models: int) -> NDArray[np.bool_]:
    """(T, m) which models have a head for a task."""
    allowed = np.zeros((len(candidates), models), bool)
    for task, columns in enumerate(candidates):
        allowed[task, list(columns)] = True
    return allowed


def fit_task_heads(
    trunk: Trunk,
    scores: Scores,
    general: Array,
    labels: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    start: Start | None = None,
) -> TaskHeads:
    """Fit the task heads to the ``scores`` of the training prompts.

    ``general`` (n, m) are the general heads' leave-one-out estimates, ``labels`` (n,) the prompts' tasks, ``allowed`` (T, m)
    the models that get a head, and ``start`` the heads that they may start from.
    """
    tasks, inputs = len(allowed), head_inputs(trunk)
    score_weight = scores.score_weight * allowed[labels]
    residual = scores.residual(general) * allowed[labels]
    fits = [_solve(inputs, residual, score_weight, labels, tasks, strength) for strength in STRENGTHS]
    errors = [float((score_weight * (residual - oof) ** 2).sum()) for _, oof in fits]
    best = errors.index(min(errors))
    weights, oof = fits[best]
    alpha = fit_alpha(residual, oof, score_weight, labels, tasks)
    inherited = np.zeros(tasks, bool)
    if start is not None and start.given.any():
        shrunk, of_shrunk = _solve(inputs, residual, score_weight, labels, tasks, STRENGTHS[best], start.weights)
        new = score_weight * (start.new & start.given[labels])[:, None]
        beta = fit_alpha(residual, of_shrunk, new, labels, tasks)

        def gain(estimate: Array) -> Array:  # (T,)
            better = (new * (residual**2 - (residual - estimate) ** 2)).sum(axis=1)
            return np.asarray(np.bincount(labels, better, tasks), np.float64)

        inherited = (beta > 0.0) & (gain(beta[labels][:, None] * of_shrunk) > gain(alpha[labels][:, None] * oof))
        weights = np.where(inherited[:, None, None], shrunk, weights)
        oof = np.where((inherited[labels] & start.new)[:, None], of_shrunk, oof)  # the parents know the others' scores
        alpha = np.where(inherited, beta, alpha)
    basis = feature_basis(trunk, inputs.shape[1] - 1)
    return TaskHeads(
        basis, weights * alpha[:, None, None], alpha, alpha[labels][:, None] * oof, inherited, STRENGTHS[best]
    )


def hide(
    heads: TaskHeads, trunk: Trunk, scores: Scores, general: Array, labels: NDArray[np.int64],
    allowed: NDArray[np.bool_], start: Start | None,
) -> Array:  # fmt: skip
    """(n, m) estimates of ``heads`` fitted anew, with their strength and alpha, to other ``scores`` and general heads."""
    inputs, tasks = head_inputs(trunk), len(allowed)
    score_weight = scores.score_weight * allowed[labels]
    residual = scores.residual(general) * allowed[labels]
    _, oof = _solve(inputs, residual, score_weight, labels, tasks, heads.strength)
    if start is not None and heads.inherited.any():
        _, of_shrunk = _solve(inputs, residual, score_weight, labels, tasks, heads.strength, start.weights)
        oof = np.where((heads.inherited[labels] & start.new)[:, None], of_shrunk, oof)
    out: Array = heads.alpha[labels][:, None] * oof
    return out


def fit_alpha(residual: Array, estimate: Array, score_weight: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(T,) alpha in [0, 1]: the least-squares factor of ``estimate`` for ``residual`` by task, shrunk to that of all tasks.

    0 where a task's gain does not exceed its standard error, and everywhere if that of all together does not exceed two.
    """
    gain, power = (score_weight * residual * estimate).sum(axis=1), (score_weight * estimate**2).sum(axis=1)
    if gain.sum() <= 2.0 * np.sqrt((gain**2).sum()):
        return np.zeros(tasks)
    overall = gain.sum() / max(power.sum(), 1e-12)
    by_gain, by_power = np.bincount(labels, gain, tasks), np.bincount(labels, power, tasks)
    strength = power.sum() / tasks
    alpha = np.clip((by_gain + strength * overall) / (by_power + strength + 1e-12), 0.0, 1.0)
    return np.where(by_gain > np.sqrt(np.bincount(labels, gain**2, tasks)), alpha, 0.0)


def _solve(
    inputs: Array,
    residual: Array,
    score_weight: Array,
    labels: NDArray[np.int64],
    tasks: int,
    strength: float,
    start: Array | None = None,
) -> tuple[Array, Array]:
    """(T, q, m) weights and (n, m) leave-one-out estimates of ridge regression by (task, model), shrunk to ``start``."""
    weights = np.zeros((tasks, inputs.shape[1], residual.shape[1]))
    oof = np.zeros_like(residual)
    for task in range(tasks):
        rows = np.flatnonzero(labels == task)
        a, w, y = inputs[rows], score_weight[rows], residual[rows]  # (p, q), (p, m), (p, m)
        known = 0.0 if start is None else a @ start[task]
        y = y - known
        gram = (a.T * w.T[:, None, :]) @ a + strength * np.eye(a.shape[1])  # (m, q, q)
        inverse = np.linalg.inv(gram)
        weights[task] = (inverse @ (a.T @ (w * y)).T[:, :, None])[:, :, 0].T
        leverage = ((a @ inverse) * a).sum(axis=2).T * w  # (p, m)
        fitted = a @ weights[task]
        oof[rows] = known + np.where(w > 0, y - (y - fitted) / np.maximum(1.0 - leverage, 0.02), fitted)
    return (weights if start is None else weights + start), oof
