"""Over hundreds of simulated refreshes and trials with a known truth, challengers are promoted as often as the confidence says.

The figures are printed by ``python -m tests.agent.evaluation.refreshes`` and ``python -m tests.agent.evaluation.trials``, and
kept in ``docs/log.md``. A bound on a rate of 5 % is the 99 % quantile of what so many refreshes at that rate show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from agent.choice.exploration import ChoiceConfig, inverse_gap_weights
from agent.evaluation.trial import HOLD_BACK
from tests.agent.evaluation.refreshes import (
    EVIDENCE,
    MODELS,
    Setting,
    feedback,
    ideal_power,
    promoted,
    prompts,
    propensities,
    refresh,
    refresh_by_row,
)
from tests.agent.evaluation.trials import HELD, Simulated, many, path

EVALUATIONS, FEEDBACK = 2500, 300
"""Held out, both; the routes differ on a fifth of the prompts."""


def at_most(rate: float, times: int) -> float:
    return float(binom.ppf(0.99, times, rate) / times)


def at_least(rate: float, times: int) -> float:
    return float(binom.ppf(0.01, times, rate) / times)


def test_challengers_that_are_worse_by_a_hundredth_are_promoted_at_most_once_in_twenty() -> None:
    assert promoted(Setting(-0.01, EVALUATIONS, FEEDBACK), 100) <= 0.01


@pytest.mark.parametrize(("evaluations", "before"), [(500, 0.40), (1000, 0.57), (2000, 0.82)])
def test_better_challengers_are_promoted_nearly_as_often_as_by_the_ideal_paired_test(
    evaluations: int, before: float
) -> None:
    found = promoted(better := Setting(0.01, evaluations, 500), 200)
    assert found >= at_least(before, 200)
    assert found >= at_least(ideal_power(better) - 0.06, 200)


def test_feedback_alone_promotes_the_better_and_seldom_the_equal_where_models_are_tried_alike() -> None:
    """Of a greedy router's feedback the gate uses near-ties only, by which few challengers are proven better."""
    alike = ChoiceConfig(gamma=0.0, gamma_growth=0.0, cap=1.0)
    equal = Setting(0.0, 0, 2000, differ=0.8, spread=0.3, choice=alike)
    assert promoted(replace(equal, better=0.079), 100) >= 0.80
    assert promoted(equal, 100) <= at_most(0.05, 100)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(0.0, EVALUATIONS, FEEDBACK),
        Setting(0.0, 500, 300, differ=0.02),
        Setting(0.0, 0, 500),
        Setting(0.0, 0, 500, differ=0.4, noise=0.1),
    ],
    ids=["both", "routes that hardly differ", "feedback alone", "feedback alone, noisy router"],
)
def test_challengers_that_are_no_better_are_promoted_as_seldom_as_the_confidence_says(setting: Setting) -> None:
    """The hardest case of "worse"."""
    assert promoted(setting) <= at_most(0.05, 200)


def test_the_simulation_has_the_truth_that_it_says() -> None:
    rng = np.random.default_rng(0)
    for better, top in ((-0.01, 4), (0.01, 4), (0.1, 8)):
        asked = prompts(100_000, setting := Setting(better, differ=0.2 if top == 4 else 0.6, spread=0.2, top=top), rng)
        rows = np.arange(100_000)
        old, new = asked.champion.argmax(axis=1), asked.challenger.argmax(axis=1)
        assert np.mean(old != new) == pytest.approx(setting.differ, abs=0.005)
        gain = asked.truth[rows, new] - asked.truth[rows, old]
        assert gain.mean() == pytest.approx(better, abs=0.001)


def test_the_simulated_log_explores_as_little_as_the_router_does() -> None:
    rng = np.random.default_rng(0)
    asked, config = prompts(300, Setting(0.0), rng), ChoiceConfig()
    gamma = config.gamma + config.gamma_growth * EVIDENCE
    by_row = [inverse_gap_weights(live, gamma, config.cap) for live in asked.live]
    assert propensities(asked.live) == pytest.approx(np.array(by_row))
    rows = feedback(asked, rng)
    for row in rows:
        assert sum(c.propensity for c in row.actions) == pytest.approx(1.0)
        assert next(c.propensity for c in row.actions if c.model == row.model) == row.propensity
        assert max(c.propensity for c in row.actions) >= 0.95
    assert len({row.model for row in rows}) > len(MODELS) // 2


@pytest.mark.parametrize("setting", [Setting(0.01, 300, 200), Setting(0.0, 0, 300), Setting(-0.01, 200, 0)])
def test_the_simulated_verdict_is_that_of_a_refresh(setting: Setting) -> None:
    fast, whole = refresh(setting, 0), refresh_by_row(setting, 0)
    assert fast.reason == whole.reason and fast.pooled is not None and whole.pooled is not None
    assert (fast.pooled.mean, fast.pooled.stderr) == pytest.approx((whole.pooled.mean, whole.pooled.stderr))


@pytest.mark.parametrize("blind", [False, True], ids=["", "estimates that know nothing of difficulty"])
def test_a_trial_of_3000_decisions_tells_better_from_equal_and_worse(blind: bool) -> None:
    """The routes differ on 40 %; a challenger better by .02 is better by .05 there."""
    equal, times = Simulated(0.0, blind=blind), 100
    assert many(replace(equal, better=0.02), times).promoted >= 0.5
    assert many(equal, times).promoted <= at_most(0.05, times)
    assert many(replace(equal, better=-0.02), times).promoted <= 0.01


@pytest.mark.parametrize("world", HELD)
def test_a_hold_back_of_1000_decisions_finds_the_champion_that_is_worse_by_a_tenth(world: str) -> None:
    held, times = replace(HELD[world], better=0.1), 100
    assert many(held, times).promoted >= at_least(0.95, times)
    assert many(replace(held, better=0.0), times).promoted <= at_most(0.05, times)


def test_the_simulated_trial_has_the_truth_that_it_says() -> None:
    """And the propensities: each arm is seen as often as they say."""
    world = replace(HELD["differ 60 %"], better=0.1, decisions=40_000)
    made = path(world, np.random.default_rng(0))
    found = made.evidence
    assert len(found) / made.at[-1] == pytest.approx(0.6, abs=0.01) and world.config is HOLD_BACK
    for arm, propensity in ((1, found.challenger_propensity), (-1, found.champion_propensity)):
        assert np.mean(found.chosen == arm) == pytest.approx(propensity.mean(), abs=0.01)
    for k in (1, len(found)):
        assert made.until(k).decisions == k and made.until(k).expected_regret == made.expected_regret[k - 1]
    assert np.all(np.diff(made.expected_regret) >= 0.0), "a request counts at least 0, as in `route_on_trial`"
    # a champion that nearly always takes its best model gives it up in half of the coin's requests
    cost = made.true_regret[-1] / len(found)
    assert cost == pytest.approx(-0.1 / 0.6 * world.config.share / 2, abs=0.005)
    by_arm = [found.score[found.chosen == arm].mean() for arm in (1, -1)]
    assert (by_arm[0] - by_arm[1]) * 0.6 == pytest.approx(0.1, abs=0.01)
