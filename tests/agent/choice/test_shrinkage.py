"""Shrinkage: noisy estimates are drawn toward the overall means, accurate ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from agent.choice.utility import MIN_PROMPTS, fit_optimism, fit_shrinkage, shrink_to_mean
from agent.examples import Scores

MEANS = np.array([0.7, 0.6, 0.5])


def a_world(talent: float, n: int = 2000) -> tuple[np.ndarray, Scores]:
    """Qualities that vary by ``talent`` (standard deviation) over prompts, and Bernoulli scores of them."""
    rng = np.random.default_rng(3)
    truth = np.clip(MEANS + talent * rng.standard_normal((n, 3)), 0.0, 1.0)
    return truth, Scores((rng.random((n, 3)) < truth).astype(float), np.ones((n, 3)))


def test_noisy_estimates_are_shrunken_and_accurate_ones_are_not() -> None:
    truth, scores = a_world(0.25)
    assert fit_shrinkage(truth, MEANS, scores) < 0.2
    _, level = a_world(0.0)
    noisy = MEANS + 0.25 * np.random.default_rng(4).standard_normal((2000, 3))
    assert fit_shrinkage(noisy, MEANS, level) > 0.6


def test_with_too_few_prompts_of_several_scores_the_share_is_the_priors() -> None:
    truth, scores = a_world(0.0, MIN_PROMPTS - 1)
    prior = fit_shrinkage(truth, MEANS, scores)
    shares = np.arange(10) / 10
    assert prior == pytest.approx(np.average(shares, weights=np.exp(-2.0 * shares))) and 0.2 < prior < 0.5
    truth, scores = a_world(0.0)
    single = Scores(scores.value, np.tile([1.0, 0.0, 0.0], (len(truth), 1)))
    assert fit_shrinkage(truth, MEANS, single) == prior
    assert fit_shrinkage(truth, MEANS, Scores(scores.value, np.zeros(truth.shape))) == 0.0


def test_estimates_are_drawn_to_the_means_less_so_the_more_cost_counts() -> None:
    quality = np.array([[0.5, 0.9, 0.4]])
    assert shrink_to_mean(quality, MEANS, 0.0).tolist() == quality.tolist()
    assert shrink_to_mean(quality, MEANS, 0.5)[0] == pytest.approx([0.6, 0.75, 0.45])
    assert shrink_to_mean(quality, MEANS, 0.5, 0.1)[0] == pytest.approx(quality[0], abs=1e-6)


def test_models_without_a_score_are_no_choice_and_two_scores_are_enough() -> None:
    """The model that is never scored looks best; to choose it would earn nothing."""
    truth, scores = a_world(0.25)
    seen = np.tile([1.0, 1.0, 0.0], (len(truth), 1))
    tempting = np.where(seen == 1.0, truth, 2.0)
    value = np.where(seen == 1.0, scores.value, 0.0)
    assert fit_shrinkage(tempting, MEANS, Scores(value, seen)) == pytest.approx(
        fit_shrinkage(truth[:, :2], MEANS[:2], Scores(value[:, :2], seen[:, :2]))
    )
    assert fit_shrinkage(tempting, MEANS, Scores(value, seen)) < 0.3


def test_the_best_of_many_noisy_estimates_is_found_to_be_too_high() -> None:
    rng = np.random.default_rng(5)
    scores = Scores(np.full((400, 5), 0.5), np.ones((400, 5)))
    means, noisy = np.full(5, 0.5), 0.5 + 0.1 * rng.standard_normal((400, 5))
    too_high = float((noisy.max(axis=1) - 0.5).mean())
    assert fit_optimism(noisy, means, 0.9, scores) == pytest.approx(0.9 * too_high)
    assert fit_optimism(noisy, means, 0.0, scores) == 0.0
    few = Scores(scores.value[: MIN_PROMPTS - 1], scores.score_weight[: MIN_PROMPTS - 1])
    assert fit_optimism(noisy[: MIN_PROMPTS - 1], means, 0.9, few) == 0.0
