"""Means of neighbours' scores are shrunk to the prior and corrected for which models were tried."""

from __future__ import annotations

import numpy as np
import pytest

from agent.examples import Scores
from agent.index.neighbours import Neighbours, neighbour_means, shrunk_mean


def test_without_scores_the_mean_is_the_prior() -> None:
    base = np.array([[0.2, 0.7]])
    assert shrunk_mean(np.zeros((1, 2)), np.zeros((1, 2)), base, 10.0) == pytest.approx(base)


def test_many_scores_outweigh_the_prior() -> None:
    mean = shrunk_mean(np.array([[900.0, 100.0]]), np.full((1, 2), 1000.0), np.array([0.5, 0.5]), 10.0)
    assert mean == pytest.approx(np.array([[0.9, 0.1]]), abs=0.01)


def test_the_order_of_models_that_were_all_scored_is_that_of_their_own_averages() -> None:
    rng = np.random.default_rng(0)
    total, base = 20 * rng.random((50, 5)), rng.random((50, 5))
    own = (total + 10.0 * base) / 30.0
    assert (np.argsort(shrunk_mean(total, np.full((50, 5), 20.0), base, 10.0)) == np.argsort(own)).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_the_prompt_effect_moves_models_without_scores_too(level: float) -> None:
    """Only one model was tried: its scores tell more of the prompts than of the model."""
    count = np.array([[40.0, 0.0, 0.0]])
    mean = shrunk_mean(level * count, count, np.full((1, 3), 0.5), 10.0)[0]
    assert np.abs(mean - mean.mean()).max() < 0.5 * np.abs(mean - 0.5).min()


def test_neighbours_count_by_similarity_and_score_weight() -> None:
    neighbours = Neighbours(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[1.0, 0.5]] * 3, np.float32))
    value = np.array([[0.0], [1.0], [0.0]])
    both = neighbour_means(neighbours, Scores(value, np.ones((3, 1))), np.array([0.5]), 1.0, 1.0)
    near = neighbour_means(neighbours, Scores(value, np.array([[1.0], [1.0], [0.1]])), np.array([0.5]), 1.0, 1.0)
    assert both[0, 0] > 0.5 and near[0, 0] > both[0, 0]
