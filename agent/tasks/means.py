"""Task means: the expected score of each model on each task, by a mixed model of all scores.

``score = model + task + (task, model) + prompt + noise``, every effect Gaussian, those of models around what is expected
before any score (published figures where there are any): Henderson's best linear prediction, with variances by expectation
maximisation (Bishop 2006, chapters 2.3 and 9.4). A task's means are so shrunk to the model's overall mean and to the task's
effect on all models, as far as the variances tell, and a model that was tried on easy tasks only is not overrated.
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

_START_WEIGHT = 4.0
"""Weight of the starting variances, in tasks or scores."""

_LEAST_DISCOUNT = 0.1
"""Least by which a model without scores or figures is expected to fall short of the others."""


@dataclass(frozen=True, slots=True)
class Variances:
    """Of the effects of ``model``, ``task``, ``interaction`` (task, model) and ``prompt``, and of the ``noise``."""

    model: float = 0.02
    task: float = 0.01
    interaction: float = 0.01
    prompt: float = 0.03
    noise: float = 0.1


@dataclass(frozen=True, slots=True)
class Means:
    """(T, m) posterior ``mean`` in [0, 1], its ``stderr``, and ``n_scores``, the summed weights of the scores behind it.

    ``overall`` (m,) is each model's mean over tasks, in [0, 1]; ``variances`` those that the scores make most likely.
    """

    mean: Array
    stderr: Array
    n_scores: Array
    overall: Array
    variances: Variances


def task_means(
    labels: NDArray[np.int64],
    scores: Scores,
    prior: Array | None,
    start: Variances = Variances(),
    rounds: int = ROUNDS,
) -> Means:
    """Means of m models on the tasks of ``labels`` (n,), 0..T-1, from the ``scores`` of n prompts.

    ``prior`` (n, m) are expected scores before any was observed, NaN where there is none; or None. Variances ``start`` as
    given, and are updated in each of ``rounds`` of expectation maximisation.
    """
    models = scores.score_weight.shape[1]
    tasks = int(labels.max()) + 1
    seen, figures = np.asarray(scores.seen.any(axis=0)), _published(prior, models)
    member = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), (tasks, len(labels)))
    by_task = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    shift = _task_shift(member, prior, figures)  # (T, m)
    n_scores = member @ scores.score_weight
    total, count = float(scores.score_weight.sum()), scores.score_weight.sum(axis=1)  # count (n,)
    first, v = Variances(), start
    mu = _model_prior(np.full(models, _mean_score(scores, figures)), seen, figures)
    for _ in range(rounds):
        # the prompts' effects are integrated out
        damp = v.prompt / (v.noise + v.prompt * count)  # (n,)
        prompt_effect = (scores.score_weight * scores.value).sum(axis=1) * damp
        information_vector = (
            member @ (scores.score_weight * (scores.value - prompt_effect[:, None])) / v.noise
        )  # (T, m)
        information_matrix = _information(by_task, n_scores, scores.score_weight, damp) / v.noise  # (T, m, m)
        information_vector = information_vector - (information_matrix @ shift[:, :, None])[:, :, 0]

        # posterior of the models' means mu, then of each task's effects given mu
        prior_precision = np.linalg.inv(v.interaction * np.eye(models) + v.task)
        covariance = np.linalg.inv(information_matrix + prior_precision)  # (T, m, m)
        on_mu = len(covariance) * prior_precision - prior_precision @ covariance.sum(axis=0) @ prior_precision
        mu_prior = _model_prior(mu, seen, figures)
        mu_covariance = np.linalg.inv(on_mu + np.eye(models) / v.model)
        gain = prior_precision @ (covariance @ information_vector[:, :, None]).sum(axis=0)[:, 0]
        mu = mu_covariance @ (gain + mu_prior / v.model)
        effect = (covariance @ (information_vector + prior_precision @ mu)[:, :, None])[:, :, 0] - mu  # (T, m)
        mean = mu + shift + effect

        # the variances that make these effects, and what is left uncertain of them, most likely
        residual = scores.residual(mean[labels])
        prompt = (scores.score_weight * residual).sum(axis=1) * damp
        prompt_variance = v.noise * damp  # (n,) posterior
        variance = np.diagonal(covariance, axis1=1, axis2=2)  # (T, m)
        squared = (residual - prompt[:, None]) ** 2 + prompt_variance[:, None] + variance[labels]
        outer = effect.T @ effect + covariance.sum(axis=0)
        common = (outer.sum() - np.trace(outer)) / max(models * (models - 1), 1)
        interaction = np.trace(outer) / models - common
        prompt = (prompt**2 + prompt_variance)[count > 0]
        v = Variances(
            model=_shrunk(((mu - mu_prior) ** 2).sum() + np.trace(mu_covariance), models, first.model),
            task=max(_shrunk(common, tasks, first.task), 1e-4),
            interaction=max(_shrunk(interaction, tasks, first.interaction), 1e-4),
            prompt=max(_shrunk(prompt.sum(), len(prompt), first.prompt), 1e-4),
            noise=max(_shrunk(float((scores.score_weight * squared).sum()), total, first.noise), 1e-4),
        )
    stderr = np.sqrt(variance + np.diag(mu_covariance))
    return Means(np.clip(mean, 0.0, 1.0), stderr, n_scores, np.clip(mu, 0.0, 1.0), v)


def prompt_share(weight: Array, variances: Variances) -> Array:
    """(n,) factor f such that f x (weighted sum of a row's errors)^2 is the row's squared error due to the prompt.

    Where several models were scored, that is their mean error: only their differences count. A single score's error is
    the prompt's as far as the variances say. ``weight`` (n, m) is of each error.
    """
    total = weight.sum(axis=1)
    single = (weight > 0.0).sum(axis=1) == 1
    out: Array = 1.0 / np.maximum(total + single * variances.noise / variances.prompt, 1e-9)
    return out


def _published(prior: Array | None, models: int) -> Array:
    """(m,) mean published figure of each model, NaN where there is none."""
    if prior is None:
        return np.full(models, np.nan)
    given = ~np.isnan(prior)
    total, count = np.where(given, prior, 0.0).sum(axis=0), given.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean_score(scores: Scores, figures: Array) -> float:
    """Of all scores; of the figures where there is no score, and one half where there are none either."""
    if scores.seen.any():
        return float((scores.score_weight * scores.value).sum() / scores.score_weight.sum())
    return float(np.nanmean(figures)) if not np.isnan(figures).all() else 0.5


def _model_prior(mu: Array, seen: NDArray[np.bool_], figures: Array) -> Array:
    """(m,) prior mean of each model: its figure, else the mean of those with scores, less a discount where it has none."""
    informed = ~np.isnan(figures)
    level = mu[seen] if seen.any() else figures[informed] if informed.any() else mu
    discount = np.where(seen, 0.0, max(float(level.std()), _LEAST_DISCOUNT))
    return np.where(informed, figures, level.mean() - discount)


def _task_shift(member: sparse.csr_matrix, prior: Array | None, figures: Array) -> Array:
    """(T, m) difference of a task's mean published figure and the model's own, shrunk to 0."""
    if prior is None:
        return np.zeros((member.shape[0], len(figures)))
    given = ~np.isnan(prior)
    out: Array = (member @ np.where(given, prior - figures, 0.0)) / (member @ given.astype(np.float64) + 1.0)
    return out


def _information(by_task: list[NDArray[np.int64]], n_scores: Array, score_weight: Array, damp: Array) -> Array:
    """(T, m, m) information of the scores on each task's means, x noise variance, prompt effects integrated out.

    ``by_task`` are the rows of each task's prompts.
    """
    out: Array = n_scores[:, :, None] * np.eye(n_scores.shape[1])
    shared = score_weight * np.sqrt(damp)[:, None]
    for task, rows in enumerate(by_task):
        members = shared[rows]
        out[task] -= members.T @ members
    return out


def _shrunk(total: float, count: float, prior: float) -> float:
    return float((total + _START_WEIGHT * prior) / (count + _START_WEIGHT))
