"""Task means tell the effects of models, tasks and prompts from noise."""

from __future__ import annotations

import numpy as np
import pytest

from agent.examples import Scores
from agent.tasks.means import task_means

TASKS, MODELS = 30, 4


def crossed(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tasks of ``n`` prompts, the true means (T, m), and noisy scores (n, m)."""
    rng = np.random.default_rng(seed)
    truth = 0.5 + 0.15 * rng.standard_normal((TASKS, 1)) + np.array([0.0, 0.1, 0.04, -0.02])
    truth = truth + 0.1 * rng.standard_normal((TASKS, MODELS))
    labels = np.concatenate([np.arange(TASKS), rng.integers(0, TASKS, n - TASKS)])
    prompt = 0.2 * rng.standard_normal((n, 1))
    return labels, truth, truth[labels] + prompt + 0.3 * rng.standard_normal((n, MODELS))


def test_variances_are_those_of_the_data() -> None:
    labels, truth, value = crossed(9000)
    found = task_means(labels, Scores(value, np.ones_like(value)), None, rounds=50).variances
    assert found.noise == pytest.approx(0.09, rel=0.1)
    assert found.prompt == pytest.approx(0.04, rel=0.1)
    together = np.cov(truth.T)
    common = together[~np.eye(MODELS, dtype=bool)].mean()
    assert found.task == pytest.approx(common, rel=0.1)
    assert found.interaction == pytest.approx(np.diag(together).mean() - common, rel=0.1)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.05])
def test_means_beat_averages_and_their_errors_are_as_large_as_stated(share: float) -> None:
    labels, truth, value = crossed()
    score_weight = (np.random.default_rng(1).random(value.shape) < share).astype(float)
    means = task_means(labels, Scores(value, score_weight), None)
    total = np.stack([np.bincount(labels, column) for column in (score_weight * value).T], axis=1)
    raw = np.where(means.n_scores > 0, total / np.maximum(means.n_scores, 1.0), value.mean())
    error = means.mean - truth
    assert (error**2).mean() < ((raw - truth) ** 2).mean()
    assert 0.6 < np.sqrt((error**2).mean() / (means.stderr**2).mean()) < 1.4


def test_a_model_that_was_tried_on_easy_tasks_only_is_not_overrated() -> None:
    labels, truth, value = crossed()
    easy = truth.mean(axis=1) > 0.5
    score_weight = np.ones_like(value)
    score_weight[:, 3] = easy[labels]
    score_weight[:, 2] = ~easy[labels]
    seen = np.nanmean(np.where(score_weight > 0, value, np.nan), axis=0)
    overall = task_means(labels, Scores(value, score_weight), None).overall
    real = truth.mean(axis=0)
    raw, fitted = ((m[3] - m[2]) - (real[3] - real[2]) for m in (seen, overall))
    assert raw > 0.1 and abs(fitted) < 0.7 * raw


def test_a_score_of_half_weight_counts_half() -> None:
    labels, _, value = crossed(60)
    means = task_means(labels, Scores(value, np.full_like(value, 0.5)), None)
    assert means.n_scores.sum() == pytest.approx(0.5 * value.size)
    certain = task_means(labels, Scores(value, np.ones_like(value)), None, means.variances, rounds=1)
    uncertain = task_means(labels, Scores(value, np.full_like(value, 0.5)), None, means.variances, rounds=1)
    assert (uncertain.stderr > certain.stderr).all()


def test_published_figures_stand_where_there_is_no_score() -> None:
    prior = np.tile([0.9, 0.2, np.nan], (6, 1))
    means = task_means(np.array([0, 0, 0, 1, 1, 1]), Scores(np.zeros((6, 3)), np.zeros((6, 3))), prior)
    assert means.overall[0] > means.overall[1]
    assert means.mean[0, 0] == pytest.approx(0.9) and means.mean[1, 1] == pytest.approx(0.2)
    assert means.overall[2] < 0.55  # below the mean of those of which something is known
