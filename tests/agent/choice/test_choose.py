"""The choice among models of which one is little known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.choice.choose import PoolPosterior, choose
from agent.types import RouteRequest, Turn

NAMES = ("best", "good", "new")


def posterior(n_scores: float, *, added: bool = False) -> PoolPosterior:
    """Two models that are known well, and one that may be better on this task or worse, with so many scores."""
    unsure = np.diag([1e-4, 1e-4, 0.25])
    quality = np.array([0.7, 0.68, 0.55])
    return PoolPosterior(
        names=NAMES,
        cost=np.full(3, 1e-3),
        quality=quality,
        covariance=unsure,
        overall=quality,
        overall_covariance=np.diag([1e-4, 1e-4, 2e-4]),
        task_variance=np.full(3, 0.05),
        n_scores=np.array([400.0, 400.0, n_scores]),
        added=np.array([False, False, added]),
        heirs=np.zeros(3, bool),
        on_trial=np.zeros(3, bool),
        pulls_left=np.zeros(3),
        under_sampled=np.array([False, False, True]),
        task_n_scores=20.0,
        parts=({}, {}, {}),
    )


@pytest.mark.parametrize(
    ("n_scores", "affordable", "explored"),
    [(3.0, 1.0, True), (3.0, 0.01, False), (8.0, 0.01, True), (8.0, -1.0, False)],
)
@pytest.mark.parametrize("added", [False, True])
def test_what_a_newcomer_may_cost_is_limited_until_it_has_scores_enough(
    n_scores: float, affordable: float, explored: bool, added: bool
) -> None:
    """Also where a refresh has read its first scores, and where the champion does not know it yet."""
    request = RouteRequest((Turn("user", "x"),), cost_quality_tradeoff=1.0, affordable={"new": affordable})
    found = choose(posterior(n_scores, added=added), np.arange(3), request, share=0.0)
    assert bool(found.propensity[2] > 0.5) == explored
    assert found.propensity.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("overall", "explored"), [(0.6, True), (0.5, True), (0.3, False), (0.2, False)])
def test_a_newcomer_is_tried_as_long_as_that_is_worth_its_price_and_not_for_a_number_of_scores(
    overall: float, explored: bool
) -> None:
    """After five scores: bad luck does not end it, but one that is almost surely worse is left."""
    known = posterior(5.0, added=True)
    quality = np.array([0.7, 0.68, overall])
    unsure = np.diag([1e-4, 1e-4, 0.04])
    pool = replace(known, quality=quality, overall=quality, overall_covariance=unsure, pulls_left=np.array([0, 0, 3.0]))
    request = RouteRequest((Turn("user", "x"),), cost_quality_tradeoff=1.0, affordable={"new": 1.0})
    found = choose(pool, np.arange(3), request, share=0.0)
    assert bool(found.propensity[2] > 0.5) == explored


def test_a_model_on_trial_is_tried_where_what_is_open_pays_only_for_long() -> None:
    known = posterior(100.0)
    quality, unsure = np.array([0.7, 0.68, 0.65]), np.diag([1e-4, 1e-4, 0.07**2])
    pool = replace(known, quality=quality, overall=quality, overall_covariance=unsure, under_sampled=np.zeros(3, bool))
    request = RouteRequest((Turn("user", "x"),), cost_quality_tradeoff=1.0)
    shares = [
        choose(replace(pool, on_trial=np.array([False, False, trial])), np.arange(3), request, share=0.0).propensity[2]
        for trial in (False, True)
    ]
    assert shares[0] < 0.05 and shares[1] > 0.5


def test_where_no_model_is_proven_each_gets_its_first_scores_however_it_began() -> None:
    known = posterior(1.0)
    quality, sd = np.array([0.7, 0.68, 0.25]), np.array([0.2, 0.2, 0.28])
    pool = replace(
        known,
        quality=quality,
        overall=quality,
        overall_covariance=np.diag(sd**2),
        n_scores=np.array([5.0, 7.0, 1.0]),
        pulls_left=np.array([3.0, 1.0, 7.0]),
    )
    request = RouteRequest((Turn("user", "x"),), cost_quality_tradeoff=1.0, affordable=dict.fromkeys(NAMES, 1.0))
    assert choose(pool, np.arange(3), request, share=0.0).propensity[2] > 0.5
