"""Parts are weighed by what they prove, and alike where they prove nothing."""

from __future__ import annotations

import numpy as np
import pytest

from agent.examples import Scores
from agent.experts.stack import combine, fit_stack
from agent.tasks.means import Variances

VARIANCES = Variances(prompt=0.04, noise=0.04)
FREE = [np.zeros(4)]


def a_world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What models score on prompts, and their scores with noise of two kinds."""
    rng = np.random.default_rng(seed)
    truth = 0.5 + 0.15 * rng.standard_normal((n, 4))
    return truth, truth + 0.2 * rng.standard_normal((n, 1)) + 0.2 * rng.standard_normal((n, 4))


def test_the_part_that_knows_most_weighs_most() -> None:
    truth, scores = a_world(3000)
    rng = np.random.default_rng(1)
    parts = [truth + sd * rng.standard_normal(truth.shape) for sd in (0.3, 0.05, 0.3)]
    weights = fit_stack(parts, Scores(scores, np.ones_like(scores)), VARIANCES, FREE)
    assert weights.argmax() == 1 and weights[1] > 0.8
    assert weights.sum() == pytest.approx(1.0) and weights.min() >= 0.0


@pytest.mark.parametrize("score_weight", [0.0, 1e-3])
def test_parts_weigh_alike_where_nothing_is_known(score_weight: float) -> None:
    truth, scores = a_world(50)
    parts = [truth, truth * 0.0 + 0.5, 1.0 - truth]
    weights = fit_stack(parts, Scores(scores, np.full_like(scores, score_weight)), VARIANCES, FREE)
    assert weights == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_what_a_prompt_is_for_all_models_decides_little() -> None:
    """A part that knows how hard prompts are, and nothing else, does not win over one that tells the models apart."""
    truth, scores = a_world(3000)
    hard = scores.mean(axis=1, keepdims=True) + np.zeros_like(scores)
    weights = fit_stack([hard, truth], Scores(scores, np.ones_like(scores)), VARIANCES, FREE)
    assert weights[1] > 0.8


def test_a_combination_is_a_weighted_mean() -> None:
    parts = [np.zeros((2, 2)), np.ones((2, 2))]
    assert combine(np.array([0.25, 0.75]), parts) == pytest.approx(np.full((2, 2), 0.75))
