"""Stack weights follow the errors of the estimates, and are equal without scores."""

from __future__ import annotations

import numpy as np
import pytest

from agent.examples import Scores
from agent.experts.stack import combine, fit_stack
from agent.tasks.means import Variances

VARIANCES = Variances(prompt=0.04, noise=0.04)
FREE = [np.zeros(4)]


def made(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What models score on prompts, and their scores with noise of two kinds."""
    rng = np.random.default_rng(seed)
    truth = 0.5 + 0.15 * rng.standard_normal((n, 4))
    return truth, truth + 0.2 * rng.standard_normal((n, 1)) + 0.2 * rng.standard_normal((n, 4))


def test_the_most_accurate_estimate_weighs_most() -> None:
    truth, scores = made(3000)
    rng = np.random.default_rng(1)
    estimates = [truth + sd * rng.standard_normal(truth.shape) for sd in (0.3, 0.05, 0.3)]
    weights = fit_stack(estimates, Scores(scores, np.ones_like(scores)), VARIANCES, FREE)
    assert weights.argmax() == 1 and weights[1] > 0.8
    assert weights.sum() == pytest.approx(1.0) and weights.min() >= 0.0


@pytest.mark.parametrize("score_weight", [0.0, 1e-3])
def test_estimates_weigh_equally_without_scores(score_weight: float) -> None:
    truth, scores = made(50)
    estimates = [truth, truth * 0.0 + 0.5, 1.0 - truth]
    weights = fit_stack(estimates, Scores(scores, np.full_like(scores, score_weight)), VARIANCES, FREE)
    assert weights == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_accuracy_on_the_prompt_effect_counts_little() -> None:
    """An estimate of how hard prompts are weighs less than one of the models' differences."""
    truth, scores = made(3000)
    hard = scores.mean(axis=1, keepdims=True) + np.zeros_like(scores)
    weights = fit_stack([hard, truth], Scores(scores, np.ones_like(scores)), VARIANCES, FREE)
    assert weights[1] > 0.8


def test_a_combination_is_a_weighted_mean() -> None:
    estimates = [np.zeros((2, 2)), np.ones((2, 2))]
    assert combine(np.array([0.25, 0.75]), estimates) == pytest.approx(np.full((2, 2), 0.75))
