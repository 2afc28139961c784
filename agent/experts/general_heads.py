"""The shared trunk and the general heads: a linear head per model that serves all tasks; the first phase of stage 2.

The *trunk* makes features of a prompt in which linear heads are kernel machines: its similarities to some hundred landmark
prompts, rotated so that the training prompts' features are orthogonal (Nystroem; Williams & Seeger 2001). It is fitted to
the prompts alone and then frozen; all heads and the cost model read it. A trained MLP in its place got no weight in the
stack on any data set (docs/log.md).

The *general heads* are fitted by closed-form ridge regression of the models' contrasts (their differences on a prompt, which
alone decide), weighted to the models that compete and rotated to principal directions, each with its own ridge strength, or
left out, by exact leave-one-out error. The second phase, with both frozen, is `agent.experts.task_heads` (arXiv 2603.19415).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Matrix, Representation, eigh, kernel
from agent.examples import Scores
from agent.types import Array

_JITTER = 1e-6


_LEAST_POWER = 1e-6


_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Trunk:
    """The trunk, with the features of the training prompts.

    ``landmarks`` (l, w) are prompts as `Representation.transform` gives them, ``weight`` (l, r) leads from similarities to
    features, strongest first, ``power`` (r,) is each feature's sum of squares over the training prompts, and ``basis`` (n, r)
    their features scaled to orthonormal columns, the largest array of a training.
    """

    landmarks: Matrix
    weight: Array
    power: Array
    basis: Matrix


def fit_trunk(x: Matrix, representation: Representation, landmarks: int, rng: np.random.Generator) -> Trunk:
    """Fit the trunk to transformed prompts ``x`` (n, w), of which at most ``landmarks`` are drawn as landmarks."""
    n = len(x)
    drawn = np.sort(rng.permutation(n)[: min(landmarks, n)])
    close = kernel(x, x[drawn], representation)  # (n, l)
    power, vectors = eigh(close[drawn].astype(np.float64) + _JITTER * np.eye(len(drawn)))
    whiten = vectors / np.sqrt(np.maximum(power, _JITTER))
    gram = np.zeros((len(drawn), len(drawn)))
    for rows in chunks(n):
        part = close[rows].astype(np.float64)
        gram += part.T @ part
    power, vectors = eigh(whiten.T @ gram @ whiten)
    keep = power > _LEAST_POWER * power[0]
    weight, power = whiten @ vectors[:, keep], power[keep]
    basis = np.empty((n, len(power)), np.float32)
    for rows in chunks(n):
        basis[rows] = close[rows] @ (weight / np.sqrt(power))
    return Trunk(x[drawn], weight, power, basis)


def chunks(n: int) -> Iterator[slice]:
    """``n`` rows, some at a time, so that what is computed for them is never as large as `Trunk.basis`."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


STRENGTHS = np.geomspace(0.1, 1000.0, 10)
"""Ridge strengths tried, in the kernel's units (a prompt's similarity to itself is 1)."""


TEMPERATURE = 0.1
"""Of the softmax of qualities that is a model's competition weight."""


_ROUNDS = 3


_UNIFORM = 0.1


_LEAST_FREEDOM = 0.02


_HIDING_ROUNDS = 4
"""The error falls by the fold's share of the prompts or more in each."""


@dataclass(frozen=True, slots=True)
class GeneralHeads:
    """``weight`` (r + 1, m), a column a model on the trunk's features, the intercept last; leave-one-out ``oof`` (n, m).

    They are ``directions`` (p, m) times regressions of the ``contrast`` (n, p) at `ridge` ``strength`` (p,).
    """

    weight: Array
    oof: Array
    contrast: Array
    strength: Array
    directions: Array


def fit_general_heads(trunk: Trunk, scores: Scores, expected: Array, cost_penalties: list[Array]) -> GeneralHeads:
    """Fit the general heads to the ``scores`` of the training prompts.

    ``expected`` (n, m) are finite out-of-fold estimates of stage 1: they give the competition weights, and stand for missing
    scores. The competition weights are averaged over ``cost_penalties``, (m,) each.
    """
    complete, score_weight = scores.complete, scores.score_weight
    importance = np.mean([competition_weights(expected - p).mean(axis=0) for p in cost_penalties], axis=0)
    importance = (importance + _UNIFORM / score_weight.shape[1]) / (1.0 + _UNIFORM)
    estimate = expected
    for _ in range(1 if complete else _ROUNDS):
        # a missing score is the estimate so far, plus the prompt's effect on the models that were scored
        gap = scores.residual(estimate) * score_weight
        prompt_effect = gap.sum(axis=1, keepdims=True) / (score_weight.sum(axis=1, keepdims=True) + 2.0)
        target = estimate + gap + (1.0 - score_weight) * prompt_effect
        level = target.mean(axis=0)
        project, directions = contrasts(target - level, importance, complete)
        contrast = (target - level) @ project  # (n, p)
        oof, strength = ridge(trunk, contrast, np.ones(contrast.shape) if complete else score_weight)
        estimate = level + oof @ directions
    weight = np.concatenate([ridge_weights(trunk, contrast, strength) @ directions, level[None]])
    return GeneralHeads(weight, estimate, contrast, strength, directions)


def cross_fitted(
    trunk: Trunk, heads: GeneralHeads, rows: NDArray[np.int64], folds: Iterable[NDArray[np.bool_]]
) -> Iterator[Array]:
    """By fold of the prompts ``rows`` (s,): (s, m) estimates of ``heads`` fitted to complete scores without the fold's (s,).

    Of the other prompts the estimates are leave-one-out, with the leverage of the fit to all. What the fit would be is found
    by replacing the fold's contrasts with their estimates until these no longer change.
    """
    share = _share(trunk, heads.strength)
    all_inner = _project(trunk, heads.contrast)  # (r, p)
    basis, observed = trunk.basis[rows].astype(np.float64), heads.contrast[rows]
    freedom = np.maximum(1.0 - basis**2 @ share, _LEAST_FREEDOM)
    for fold in folds:
        inner, target = all_inner, observed.copy()
        for _ in range(_HIDING_ROUNDS):
            estimate = basis[fold] @ (inner * share)
            inner = inner + basis[fold].T @ (estimate - target[fold])
            target[fold] = estimate
        fitted = basis @ (inner * share)
        left_out = target - (target - fitted) / np.where(fold[:, None], 1.0, freedom)
        yield heads.weight[-1] + left_out @ heads.directions


def _share(trunk: Trunk, strength: Array) -> Array:
    """(r, p) share of each feature's fit that ridge ``strength`` (p,) leaves."""
    return np.where(np.isfinite(strength), trunk.power[:, None] / (trunk.power[:, None] + strength), 0.0)


def contrasts(centred: Array, importance: Array, complete: bool) -> tuple[Array, Array]:
    """``project`` (m, p) from scores to contrasts and ``directions`` (p, m) back.

    Contrasts are principal directions of the ``centred`` (n, m) scores' differences between models, each model weighted by
    its ``importance`` (m,), and last the prompt's effect on all models. Where scores are missing: each model by itself.
    """
    m = centred.shape[1]
    if not complete or m == 1:
        return np.eye(m), np.eye(m)
    size = np.sqrt(importance * m)
    mean = np.tile(importance[:, None], (1, m))  # scores @ mean: every column the weighted mean
    apart = (np.eye(m) - mean) * size  # (m, m)
    axes = np.linalg.svd(centred @ apart, full_matrices=False)[2][: m - 1]  # (m - 1, m)
    project = np.concatenate([apart @ axes.T, importance[:, None]], axis=1)
    return project, np.concatenate([axes / size, np.ones((1, m))])


def ridge(trunk: Trunk, target: Array, score_weight: Array, strengths: Array = STRENGTHS) -> tuple[Array, Array]:
    """Leave-one-out ridge regression of each column of ``target`` (n, p), at the strength of least error.

    Returns (n, p) leave-one-out estimates, and (p,) strengths, infinite where 0 is the better estimate. Errors are weighted
    by ``score_weight`` (n, p).
    """
    share = trunk.power[:, None] / (trunk.power[:, None] + strengths)  # (r, s)
    inner = _project(trunk, target)
    tried = (inner[:, :, None] * share[:, None, :]).reshape(len(inner), -1).astype(np.float32)  # (r, p * s)
    error = np.zeros((target.shape[1], len(strengths)))
    freedom = np.empty((len(target), len(strengths)))
    for rows in chunks(len(target)):
        basis = trunk.basis[rows]
        freedom[rows] = np.maximum(1.0 - basis**2 @ share.astype(np.float32), _LEAST_FREEDOM)
        fitted = (basis @ tried).reshape(len(basis), *error.shape)
        gap = (target[rows][:, :, None] - fitted) / freedom[rows][:, None, :]
        error += np.einsum("np,nps->ps", score_weight[rows], gap**2)
    best = error.argmin(axis=1)  # (p,)
    helps = error.min(axis=1) < (score_weight * target**2).sum(axis=0)
    chosen = np.where(helps, inner * share[:, best], 0.0).astype(np.float32)  # (r, p)
    oof = np.empty_like(target)
    for rows in chunks(len(target)):
        gap = (target[rows] - trunk.basis[rows] @ chosen) / freedom[rows][:, best]
        oof[rows] = np.where(helps, target[rows] - gap, 0.0)
    return oof, np.where(helps, strengths[best], np.inf)


def ridge_weights(trunk: Trunk, target: Array, strength: Array) -> Array:
    """(r, p) weights of the trunk's features for ``target`` (n, p) at `ridge` strengths (p,)."""
    shrink = np.where(np.isfinite(strength), 1.0 / (trunk.power[:, None] + strength), 0.0)  # (r, p)
    return _project(trunk, target) * np.sqrt(trunk.power)[:, None] * shrink


def _project(trunk: Trunk, target: Array) -> Array:
    """(r, p) ``basis.T @ target``."""
    out = np.zeros((trunk.basis.shape[1], target.shape[1]))
    for rows in chunks(len(target)):
        out += trunk.basis[rows].T.astype(np.float64) @ target[rows]
    return out


def competition_weights(quality: Array, temperature: float = TEMPERATURE) -> Array:
    """(n, m) softmax of ``quality`` over the models: how far each competes on a prompt."""
    weight = np.exp((quality - quality.max(axis=1, keepdims=True)) / temperature)
    out: Array = weight / weight.sum(axis=1, keepdims=True)
    return out
