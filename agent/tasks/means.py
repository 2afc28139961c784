"""Task means: what each model scores on a task, by a mixed model of all scores.

``score = model + task + (task, model) + prompt + noise``, every effect but noise Gaussian around what was expected before
any score (published figures where there are any): Henderson's best linear prediction, with variances by expectation
maximisation (Bishop 2006, chapters 2.3 and 9.4). So a model that was only tried on easy tasks is not taken for a good one, a
task's means lean on the model's and on what the task is for all models, and how strongly they lean is learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from agent.examples import Scores
from agent.types import Array

ROUNDS = 8
"""Of expectation maximisation."""

_BELIEF = 4.0
"""Tasks, or scores, that the starting variances weigh like."""

_LEAST_CAUTION = 0.1


@dataclass(frozen=True, slots=True)
class Variances:
    """Of each effect: ``model``, ``task``, ``own`` (of a task and model), ``prompt``, and ``noise``."""

    model: float = 0.02
    task: float = 0.01
    own: float = 0.01
    prompt: float = 0.03
    noise: float = 0.1


@dataclass(frozen=True, slots=True)
class Means:
    """(T, m) ``mean`` and ``stderr``, ``evidence`` (T, m) in scores; (m,) ``overall`` of each model; ``variances``."""

    mean: Array
    stderr: Array
    evidence: Array
    overall: Array
    variances: Variances


def task_means(
    labels: NDArray[np.int64],
    scores: Scores,
    prior: Array | None,
    start: Variances = Variances(),
    rounds: int = ROUNDS,
) -> Means:
    """Means of m models on the tasks that ``labels`` number.

    Parameters
    ----------
    labels
        (n,) task of each prompt.
    scores
        Of n prompts.
    prior
        (n, m) expectation before any score, NaN where there is none; or None.
    start
        Variances to start from.
    rounds
        How often they are learned anew.
    """
    models = scores.score_weight.shape[1]
    tasks = int(labels.max()) + 1
    known, figure = np.asarray(scores.seen.any(axis=0)), _figures(prior, models)
    member = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), (tasks, len(labels)))
    shift = _task_shift(member, prior, figure)  # (T, m)
    evidence = member @ scores.score_weight
    total, count = float(scores.score_weight.sum()), scores.score_weight.sum(axis=1)  # count (n,)
    v, mu = start, _middles(np.full(models, _mean_of(scores, figure)), known, figure)
    for _ in range(rounds):
        damp = v.prompt / (v.noise + v.prompt * count)  # (n,)
        ease = (scores.score_weight * scores.value).sum(axis=1) * damp
        told = member @ (scores.score_weight * (scores.value - ease[:, None])) / v.noise  # (T, m)
        precision = _precision(member, evidence, scores.score_weight, damp) / v.noise  # (T, m, m)
        told = told - (precision @ shift[:, :, None])[:, :, 0]

        spread = v.own * np.eye(models) + v.task
        around = np.linalg.inv(spread)
        posterior = np.linalg.inv(precision + around)  # (T, m, m)
        pull = len(posterior) * around - around @ posterior.sum(axis=0) @ around
        middle = _middles(mu, known, figure)
        uncertain = np.linalg.inv(pull + np.eye(models) / v.model)
        gain = around @ (posterior @ told[:, :, None]).sum(axis=0)[:, 0]
        mu = uncertain @ (gain + middle / v.model)
        effect = (posterior @ (told + around @ mu)[:, :, None])[:, :, 0] - mu  # (T, m)
        mean = mu + shift + effect

        residual = scores.residual(mean[labels])
        prompt = (scores.score_weight * residual).sum(axis=1) * damp
        left = v.noise * damp  # (n,) posterior variance of the prompt's own effect
        own = np.diagonal(posterior, axis1=1, axis2=2)
        miss = (residual - prompt[:, None]) ** 2 + left[:, None] + own[labels]
        v = _learn(
            v,
            effect,
            posterior,
            mu - middle,
            uncertain,
            (prompt**2 + left)[count > 0],
            float((scores.score_weight * miss).sum()),
            total,
        )
    stderr = np.sqrt(own + np.diag(uncertain))
    return Means(np.clip(mean, 0.0, 1.0), stderr, evidence, np.clip(mu, 0.0, 1.0), v)


def prompt_share(weight: Array, variances: Variances) -> Array:
    """(n,) by what a row's summed errors are multiplied to give the error that all its models share.

    Where several models were scored, only what tells them apart decides and their mean error is the prompt's own doing;
    a single score's error is so as far as prompts are known to differ. ``weight`` (n, m) is what each error counts.
    """
    total = weight.sum(axis=1)
    alone = (weight > 0.0).sum(axis=1) == 1
    out: Array = 1.0 / np.maximum(total + alone * variances.noise / variances.prompt, 1e-9)
    return out


def _figures(prior: Array | None, models: int) -> Array:
    """(m,) mean published figure of each model, NaN where there is none."""
    if prior is None:
        return np.full(models, np.nan)
    told = ~np.isnan(prior)
    total, count = np.where(told, prior, 0.0).sum(axis=0), told.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean_of(scores: Scores, figure: Array) -> float:
    """Of all scores; of the figures where there is no score, and one half where there are none either."""
    if scores.seen.any():
        return float((scores.score_weight * scores.value).sum() / scores.score_weight.sum())
    return float(np.nanmean(figure)) if not np.isnan(figure).all() else 0.5


def _middles(mu: Array, known: NDArray[np.bool_], figure: Array) -> Array:
    """(m,) what is expected of each model: its figure, else the mean of the known ones, less caution if it has no score."""
    informed = ~np.isnan(figure)
    level = mu[known] if known.any() else figure[informed] if informed.any() else mu
    caution = np.where(known, 0.0, max(float(level.std()), _LEAST_CAUTION))
    return np.where(informed, figure, level.mean() - caution)


def _task_shift(member: sparse.csr_matrix, prior: Array | None, figure: Array) -> Array:
    """(T, m) how far the published figures of a task lie from the model's own average figure."""
    if prior is None:
        return np.zeros((member.shape[0], len(figure)))
    told = ~np.isnan(prior)
    shift: Array = (member @ np.where(told, prior - figure, 0.0)) / (member @ told.astype(np.float64) + 1.0)
    return shift


def _precision(member: sparse.csr_matrix, evidence: Array, score_weight: Array, damp: Array) -> Array:
    """(T, m, m) what the scores tell of each task's means, in units of the noise, the prompts' own effects unknown."""
    n, m = score_weight.shape
    shared = score_weight * np.sqrt(damp)[:, None]
    joint = member @ (shared[:, :, None] * shared[:, None, :]).reshape(n, m * m)
    out: Array = evidence[:, :, None] * np.eye(m) - joint.reshape(-1, m, m)
    return out


def _learn(
    v: Variances,
    effect: Array,
    posterior: Array,
    model: Array,
    uncertain: Array,
    prompt: Array,
    miss: float,
    total: float,
) -> Variances:
    """The variances that make the effects found, and what is left open of them, most likely."""
    tasks, m = effect.shape
    start = Variances()
    outer = effect.T @ effect + posterior.sum(axis=0)
    common = (outer.sum() - np.trace(outer)) / max(m * (m - 1), 1)
    own = np.trace(outer) / m - common
    return Variances(
        model=float(((model**2).sum() + np.trace(uncertain) + _BELIEF * start.model) / (m + _BELIEF)),
        task=max(float((common + _BELIEF * start.task) / (tasks + _BELIEF)), 1e-4),
        own=max(float((own + _BELIEF * start.own) / (tasks + _BELIEF)), 1e-4),
        prompt=max(float((prompt.sum() + _BELIEF * start.prompt) / (len(prompt) + _BELIEF)), 1e-4),
        noise=max((miss + _BELIEF * start.noise) / (total + _BELIEF), 1e-4),
    )
