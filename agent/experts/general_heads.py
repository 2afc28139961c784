"""Stage 2's first phase: a general head per model on the shared trunk.

Two phases, as arXiv 2603.19415 trains them. First trunk and general heads, here by closed-form ridge: not on the scores
but on their *contrasts* (how models differ on a prompt; only that decides which is chosen), weighted to the models that
compete and rotated to principal directions. Each direction has its own strength by exact leave-one-out, nothing at all
included. Second, with trunk and general heads frozen, the tasks' heads: `agent.experts.task_heads`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.examples import Scores
from agent.experts.trunk import Trunk
from agent.types import Array

STRENGTHS = np.geomspace(0.1, 1000.0, 10)
"""Ridge penalties tried, in the kernel's units (a prompt's similarity to itself is 1)."""

TEMPERATURE = 0.1
"""A model competes on a prompt by ``exp(quality / TEMPERATURE)``."""

_ROUNDS = 3
_EVEN = 0.1
_LEAST_FREEDOM = 0.02


@dataclass(frozen=True, slots=True)
class GeneralHeads:
    """General heads.

    Parameters
    ----------
    weight
        (r + 1, m): a column a model over the trunk's features, its level last.
    oof
        (n, m) leave-one-out estimates of the training prompts.
    penalty
        (p,) strength of each contrast's ridge; infinite where nothing was learned.
    """

    weight: Array
    oof: Array
    penalty: Array


def fit_general_heads(trunk: Trunk, scores: Scores, expected: Array, penalties: list[Array]) -> GeneralHeads:
    """Fit the general heads.

    Parameters
    ----------
    trunk
        With the training prompts' features.
    scores
        Of the training prompts.
    expected
        (n, m) finite, stage 1's left-out estimates: they say who competes, and stand in where nothing was seen.
    penalties
        Costs (m,) in units of quality at which competition is judged.
    """
    complete, score_weight = scores.complete, scores.score_weight
    importance = np.mean([competition_weights(expected - p).mean(axis=0) for p in penalties], axis=0)
    importance = (importance + _EVEN / score_weight.shape[1]) / (1.0 + _EVEN)
    estimate = expected
    for _ in range(1 if complete else _ROUNDS):
        # what was not seen: the estimate so far, moved by how easy the prompt was for the models that were seen
        gap = scores.residual(estimate) * score_weight
        ease = gap.sum(axis=1, keepdims=True) / (score_weight.sum(axis=1, keepdims=True) + 2.0)
        target = estimate + gap + (1.0 - score_weight) * ease
        level = target.mean(axis=0)
        project, directions = contrasts(target - level, importance, complete)
        apart = (target - level) @ project  # (n, p)
        oof, penalty = ridge(trunk, apart, np.ones(apart.shape) if complete else score_weight)
        estimate = level + oof @ directions
    shrink = np.where(np.isfinite(penalty), 1.0 / (trunk.power[:, None] + penalty), 0.0)  # (r, p)
    coefficients = (trunk.basis.T @ apart) * np.sqrt(trunk.power)[:, None] * shrink
    weight = np.concatenate([coefficients @ directions, level[None]])
    return GeneralHeads(weight, estimate, penalty)


def contrasts(centred: Array, importance: Array, complete: bool) -> tuple[Array, Array]:
    """``project`` (m, p) from scores to contrasts and ``directions`` (p, m) back.

    Contrasts are principal directions of what tells the models apart, each model counting by its ``importance`` (m,), and
    the prompt's ease last. Where scores are missing, each model stands for itself.
    """
    m = centred.shape[1]
    if not complete or m == 1:
        return np.eye(m), np.eye(m)
    size = np.sqrt(importance * m)
    ease = np.tile(importance[:, None], (1, m))  # scores @ ease: every column the weighted mean
    apart = (np.eye(m) - ease) * size  # (m, m)
    axes = np.linalg.svd(centred @ apart, full_matrices=False)[2][: m - 1]  # (m - 1, m)
    project = np.concatenate([apart @ axes.T, importance[:, None]], axis=1)
    return project, np.concatenate([axes / size, np.ones((1, m))])


def ridge(trunk: Trunk, target: Array, score_weight: Array, strengths: Array = STRENGTHS) -> tuple[Array, Array]:
    """Leave-one-out ridge of each column of ``target`` (n, p) under its best penalty, or none at all.

    ``score_weight`` (n, p) is what an error counts.

    Returns
    -------
    tuple
        (n, p) left-out estimates, (p,) penalties, infinite where the column is better left at 0.
    """
    count = np.maximum(score_weight.sum(axis=0), 1e-9)
    best = (score_weight * target**2).sum(axis=0) / count
    penalty = np.full(target.shape[1], np.inf)
    oof = np.zeros_like(target)
    inner, leverage = trunk.basis.T @ target, trunk.basis**2
    for strength in strengths:
        share = trunk.power / (trunk.power + strength)
        freedom = np.maximum(1.0 - leverage @ share, _LEAST_FREEDOM)
        gap = (target - trunk.basis @ (inner * share[:, None])) / freedom[:, None]
        error = (score_weight * gap**2).sum(axis=0) / count
        better = error < best
        best[better], penalty[better] = error[better], strength
        oof[:, better] = (target - gap)[:, better]
    return oof, penalty


def competition_weights(quality: Array, temperature: float = TEMPERATURE) -> Array:
    """(n, m) how much each model is in play on each prompt; rows sum to 1."""
    weight = np.exp((quality - quality.max(axis=1, keepdims=True)) / temperature)
    out: Array = weight / weight.sum(axis=1, keepdims=True)
    return out
