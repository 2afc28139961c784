"""Inverse-gap weighting: exact propensities, and no more exploration than was allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.choice.exploration import (
    ArmPosterior,
    ChoiceConfig,
    choice_probabilities,
    inverse_gap_weights,
    knowledge_gradient,
    trial_weights,
    values_of_trials,
)

utilities = st.lists(st.floats(-1e6, 1.0), min_size=1, max_size=30).map(np.array)
gammas = st.floats(0.0, 1e5)
caps = st.floats(0.0, 1.0)


@given(utilities, gammas, caps)
def test_weights_are_probabilities_and_the_rest_never_exceed_the_cap(
    utility: np.ndarray, gamma: float, cap: float
) -> None:
    weight = inverse_gap_weights(utility, gamma, cap)
    best = int(utility.argmax())
    assert weight.shape == utility.shape and weight.sum() == pytest.approx(1.0, abs=1e-12) and (weight >= 0.0).all()
    assert weight.sum() - weight[best] <= cap + 1e-12
    assert cap < 1e-9 or (weight > 0.0).all()


@given(utilities, gammas, caps)
def test_a_better_model_is_never_less_likely(utility: np.ndarray, gamma: float, cap: float) -> None:
    weight = inverse_gap_weights(utility, gamma, cap)
    others = np.delete(np.arange(len(utility)), utility.argmax())
    falling = others[np.argsort(-utility[others], kind="stable")]
    assert (np.diff(weight[falling]) <= 1e-12).all()
    if cap <= 0.5:
        assert weight.argmax() == utility.argmax()


@given(utilities, gammas, st.floats(0.1, 100.0))
def test_more_greed_explores_less(utility: np.ndarray, gamma: float, more: float) -> None:
    best = int(utility.argmax())
    left, right = (inverse_gap_weights(utility, g, 1.0)[best] for g in (gamma, gamma + more))
    assert right >= left - 1e-12


@given(utilities, gammas, caps, st.randoms())
def test_the_order_of_the_candidates_does_not_matter(
    utility: np.ndarray, gamma: float, cap: float, rnd: object
) -> None:
    utility = np.unique(utility)  # ties go to the first
    order = np.array(rnd.sample(range(len(utility)), len(utility)))  # type: ignore[attr-defined]
    assert np.allclose(inverse_gap_weights(utility, gamma, cap)[order], inverse_gap_weights(utility[order], gamma, cap))


def test_the_formula_of_the_paper() -> None:
    weight = inverse_gap_weights(np.array([0.2, 0.9, 0.7]), gamma=20.0, cap=1.0)
    assert weight == pytest.approx([1 / (3 + 20 * 0.7), 1 - 1 / 17 - 1 / 7, 1 / (3 + 20 * 0.2)])


def test_above_the_cap_all_others_shrink_alike() -> None:
    utility = np.array([0.2, 0.9, 0.7])
    free, capped = (inverse_gap_weights(utility, 20.0, cap) for cap in (1.0, 0.05))
    assert capped[[0, 2]].sum() == pytest.approx(0.05)
    assert capped[0] / capped[2] == pytest.approx(free[0] / free[2])


def test_without_greed_all_are_equally_likely() -> None:
    assert inverse_gap_weights(np.array([0.1, 0.9, 0.5, 0.2]), 0.0, 1.0) == pytest.approx([0.25] * 4)


def test_a_single_candidate_is_certain_and_a_cap_of_zero_is_greedy() -> None:
    assert inverse_gap_weights(np.array([-3.0]), 5.0, 0.1).tolist() == [1.0]
    assert inverse_gap_weights(np.array([0.1, 0.9]), 5.0, 0.0).tolist() == [0.0, 1.0]


def test_drawing_with_the_weights_gives_their_shares() -> None:
    weight = inverse_gap_weights(np.array([0.8, 0.75, 0.3, 0.79]), 20.0, 0.4)
    n = 20_000
    share = np.bincount(np.random.default_rng(0).choice(4, n, p=weight), minlength=4) / n
    assert (np.abs(share - weight) < 4 * np.sqrt(weight * (1 - weight) / n)).all()


# --- the knowledge gradient


def arms(*utility: float, sd: float = 0.1) -> ArmPosterior:
    return ArmPosterior(np.array(utility), sd**2 * np.eye(len(utility)), np.full(len(utility), 0.3))


def test_what_is_known_is_not_tried() -> None:
    value = knowledge_gradient(arms(0.7, 0.6, 0.3, sd=1e-6), 2000, (1, 8, 64))
    assert value[0] == 0.0 and (value[1:] < 0.0).all()


def test_the_nearer_the_lead_the_more_a_trial_is_worth_and_a_longer_horizon_pays_for_more() -> None:
    near, far = knowledge_gradient(arms(0.7, 0.68, 0.3), 2000, (1, 8, 64))[1:]
    assert near > 0.0 > far
    brief = knowledge_gradient(arms(0.7, 0.68, 0.3), 20, (1, 8, 64))[1]
    assert brief < near


def test_models_that_rise_and_fall_together_are_not_worth_trying_apart() -> None:
    apart = arms(0.7, 0.65)
    together = ArmPosterior(apart.utility, np.full((2, 2), 0.01), apart.noise)
    assert knowledge_gradient(together, 2000, (1, 8, 64))[1] < knowledge_gradient(apart, 2000, (1, 8, 64))[1]


def tried(utility: np.ndarray, overall: ArmPosterior, *rest: Any) -> list[int]:
    """The columns that are worth trying."""
    return np.flatnonzero(values_of_trials(utility, np.zeros(len(utility)), overall, *rest)).tolist()


def test_a_trial_that_costs_more_here_than_elsewhere_waits_for_a_better_place() -> None:
    assert tried(np.array([0.7, 0.68]), arms(0.7, 0.68)) == [1]
    assert tried(np.array([0.99, 0.1]), arms(0.7, 0.55, sd=0.05)) == []


def test_models_that_lack_most_initial_pulls_are_tried_first_and_alike() -> None:
    worth, free, ample, config = np.array([0.0, 0.9, 0.0, 0.0]), np.zeros(4), np.ones(4), ChoiceConfig()
    assert trial_weights(worth, np.array([0.0, 3.0, 9.0, 9.0]), free, ample, 0, config).tolist() == [0.0, 0.0, 0.5, 0.5]
    assert trial_weights(worth, free, free, ample, 0, config).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_trials_that_are_worth_about_the_same_are_shared_out() -> None:
    free, ample, config = np.zeros(3), np.ones(3), ChoiceConfig(alike=0.5)
    assert trial_weights(np.array([0.4, 0.3, 0.1]), free, free, ample, 2, config).tolist() == [0.5, 0.5, 0.0]


def test_what_cannot_be_afforded_is_not_tried_however_much_it_would_teach() -> None:
    value, pulls, config = np.array([0.0, 9.0, 0.0]), np.array([0.0, 0.0, 8.0]), ChoiceConfig(max_price=0.5)
    assert trial_weights(value, pulls, np.array([0.0, 0.2, 0.3]), np.array([1.0, 1.0, 0.2]), 0, config).tolist() == [
        0,
        1,
        0,
    ]
    assert not trial_weights(value, pulls, np.array([0.0, 0.6, 1e6]), np.full(3, np.inf), 0, config).any()


def test_trials_take_all_but_what_the_others_share() -> None:
    utility = np.array([0.9, 0.4, 0.8])
    alone = choice_probabilities(utility, np.zeros(3), 100.0, 0.05)
    assert alone.tolist() == inverse_gap_weights(utility, 100.0, 0.05).tolist()
    shared = choice_probabilities(utility, np.array([0.0, 0.5, 0.5]), 100.0, 0.05)
    assert shared == pytest.approx(0.95 * np.array([0.0, 0.5, 0.5]) + 0.05 * alone) and shared.sum() == pytest.approx(
        1.0
    )


def test_a_model_that_does_not_lead_only_for_caution_is_worth_trying() -> None:
    utility, unsure = (
        np.array([0.7, 0.72]),
        ArmPosterior(np.array([0.7, 0.72]), np.diag([0.0, 0.09]), np.array([0.3, 0.3])),
    )
    assert values_of_trials(utility, np.array([0.0, 0.3]), unsure)[1] > 0.02
    assert values_of_trials(utility, np.zeros(2), unsure)[1] == 0.0, "the leader over all tasks is no trial"


def test_where_the_leader_here_is_worth_most_nothing_else_is_tried() -> None:
    """Another model leads over all tasks; to choose the one that leads here teaches most already."""
    free, ample, config = np.zeros(3), np.ones(3), ChoiceConfig()
    assert not trial_weights(np.array([0.4, 0.3, 0.1]), free, free, ample, 0, config).any()
    assert trial_weights(np.array([0.3, 0.4, 0.1]), free, free, ample, 0, config).tolist() == [0.0, 1.0, 0.0]


def test_an_under_sampled_model_is_tried_on_a_task_where_it_may_be_better() -> None:
    utility = np.array([0.7, 0.65])
    certain = ArmPosterior(utility, np.zeros((2, 2)), np.array([0.3, 0.3]))  # over all tasks
    open_here = ArmPosterior(utility, np.diag([0.0, 0.05]), np.array([0.3, 0.3]))

    def n_tried(under_sampled: bool, on_task: ArmPosterior = open_here) -> int:
        return len(tried(utility, certain, ChoiceConfig(), on_task, np.array([False, under_sampled])))

    assert (n_tried(under_sampled=False), n_tried(under_sampled=True)) == (0, 1)
    assert n_tried(under_sampled=True, on_task=certain) == 0


def test_a_trial_is_charged_only_what_it_costs_here_beyond_its_cost_over_all_tasks() -> None:
    overall, config = arms(0.7, 0.68), ChoiceConfig(horizon=30.0)
    gain = knowledge_gradient(overall, config.horizon, config.lookahead)[1]
    assert 0.0 < gain < 0.04, "less than twice the gap"

    def n_tried(gap_here: float) -> int:
        return len(tried(np.array([0.7, 0.7 - gap_here]), overall, config))

    assert (n_tried(0.02 + 0.9 * gain), n_tried(0.02 + 1.1 * gain)) == (1, 0)
    assert n_tried(0.01) == 1, "where it costs less here, that is no gain"
