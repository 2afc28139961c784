"""Caution: estimates that tell little are drawn to the overall means, good ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from agent.choice.utility import MIN_PROMPTS, fit_shrinkage, shrink_to_mean
from agent.examples import Scores

MEANS = np.array([0.7, 0.6, 0.5])


def a_world(talent: float, n: int = 2000) -> tuple[np.ndarray, Scores]:
    """What models are worth on prompts, whose ``talent`` (standard deviation) differs, and coins thrown by it."""
    rng = np.random.default_rng(3)
    truth = np.clip(MEANS + talent * rng.standard_normal((n, 3)), 0.0, 1.0)
    return truth, Scores((rng.random((n, 3)) < truth).astype(float), np.ones((n, 3)))


def test_noise_calls_for_caution_and_knowledge_does_not() -> None:
    truth, scores = a_world(0.25)
    assert fit_shrinkage(truth, MEANS, scores) < 0.2
    _, level = a_world(0.0)
    noisy = MEANS + 0.25 * np.random.default_rng(4).standard_normal((2000, 3))
    assert fit_shrinkage(noisy, MEANS, level) > 0.6


def test_too_few_prompts_with_several_scores_teach_nothing() -> None:
    truth, scores = a_world(0.0, MIN_PROMPTS - 1)
    usual = fit_shrinkage(truth, MEANS, scores)
    assert 0.2 < usual < 0.5
    truth, scores = a_world(0.0)
    single = Scores(scores.value, np.tile([1.0, 0.0, 0.0], (len(truth), 1)))
    assert fit_shrinkage(truth, MEANS, single) == usual
    assert fit_shrinkage(truth, MEANS, Scores(scores.value, np.zeros(truth.shape))) == 0.0


def test_caution_draws_to_the_means_and_fades_with_price() -> None:
    quality = np.array([[0.5, 0.9, 0.4]])
    assert shrink_to_mean(quality, MEANS, 0.0).tolist() == quality.tolist()
    assert shrink_to_mean(quality, MEANS, 0.5)[0] == pytest.approx([0.6, 0.75, 0.45])
    assert shrink_to_mean(quality, MEANS, 0.5, 0.1)[0] == pytest.approx(quality[0], abs=1e-6)
