"""The rule, on simulated feedback: many looks raise no more false alarms than it says, and a bad champion is found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.choice.exploration import inverse_gap_weights
from agent.evaluation.logged import logged_decisions
from agent.evaluation.monitor import MonitorConfig, compare_live, compare_policies, radius
from agent.evaluation.off_policy import ScoredChoices
from agent.feedback.ledger import Ledger
from agent.types import Encoded, LoggedAction, Observation

Array = np.ndarray
MODELS, TASKS, WORLDS = 5, 20, 60
LOOKS = [*range(50, 1000, 25), *range(1000, 2001, 100)]


def first_alarm(seed: int, *, bad: float = 0.0, shift: float = 0.0, spread: float = 0.06) -> tuple[float, int | None]:
    """The true difference of two snapshots, and after how many decisions the champion is called worse (None: never).

    Parameters
    ----------
    bad
        Share of the tasks on which the champion takes the best model for the worst.
    shift
        How much higher all models score than both snapshots expect.
    spread
        Error of the champion's estimates; the predecessor's are off by 0.1.
    """
    rng = np.random.default_rng(seed)
    n = LOOKS[-1]
    mean = np.clip(rng.normal(0.65, 0.12, MODELS) + rng.normal(0.0, 0.1, (TASKS, MODELS)), 0.05, 0.95)
    task = rng.integers(TASKS, size=n)
    quality = np.clip(mean[task] + rng.normal(0.0, 0.1, (n, MODELS)), 0.0, 1.0)
    estimated = mean + rng.normal(0.0, spread, mean.shape)
    wrong = rng.random(TASKS) < bad
    estimated[wrong] = 1.3 - mean[wrong]
    champion = estimated[task] + rng.normal(0.0, 0.05, quality.shape)
    predecessor = (mean + rng.normal(0.0, 0.1, mean.shape))[task] + rng.normal(0.0, 0.05, quality.shape)
    logging = np.stack([inverse_gap_weights(row, 5000.0, 0.05) for row in champion])
    chosen = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    rows = np.arange(n)
    score = (rng.random(n) < np.clip(quality + shift, 0.0, 1.0)[rows, chosen]).astype(float)
    new, old = (np.eye(MODELS)[estimate.argmax(axis=1)] for estimate in (champion, predecessor))
    both = (champion + predecessor) / 2
    truth = float(((new - old) * quality).sum(axis=1).mean())
    for k in LOOKS:
        seen = ScoredChoices(chosen[:k], score[:k], np.ones(k), logging[:k])
        if compare_policies(new[:k], old[:k], both[:k], seen).worse:
            return truth, k
    return truth, None


@cache
def alarms(bad: float = 0.0, shift: float = 0.0, spread: float = 0.06) -> list[tuple[float, int | None]]:
    return [first_alarm(seed, bad=bad, shift=shift, spread=spread) for seed in range(WORLDS)]


@pytest.mark.parametrize(
    ("shift", "spread"), [(0.0, 0.06), (0.0, 0.1), (-0.2, 0.06), (0.2, 0.06)], ids=["better", "even", "harsh", "kind"]
)
def test_of_champions_that_are_no_worse_few_are_ever_called_worse(shift: float, spread: float) -> None:
    found = [at for truth, at in alarms(shift=shift, spread=spread) if truth >= 0.0]
    assert len(found) >= 25
    assert np.mean([at is not None for at in found]) <= 0.05


def test_a_champion_worse_by_a_clear_margin_is_called_worse_soon() -> None:
    found = alarms(bad=1.0)
    assert np.mean([truth for truth, _ in found]) < -0.2
    called = [at for _, at in found if at is not None]
    assert len(called) > 0.6 * WORLDS
    assert np.median(called) <= 200


def test_many_looks_cross_the_limit_no_more_often_than_alpha() -> None:
    paths = np.random.default_rng(0).standard_normal((4000, 2000)).cumsum(axis=1)
    n = np.arange(1, 2001)
    means, after = paths / n, n >= 50
    limit = np.array([radius(float(k)) for k in n])
    assert 0.01 < (means + limit < 0.0)[:, after].any(axis=1).mean() <= 0.05
    assert (means + 1.645 / n**0.5 < 0.0)[:, after].any(axis=1).mean() > 0.2, "a limit for one look is no such limit"


def apart(n: int, score: float, score_weight: Array | None = None) -> tuple[Array, Array, Array, ScoredChoices]:
    """Two models, two policies that never agree, and the champion's choice always taken and scored alike."""
    champion, predecessor = np.tile([1.0, 0.0], (n, 1)), np.tile([0.0, 1.0], (n, 1))
    noise = 0.05 * np.resize([-1.0, 1.0], n)
    weight = np.ones(n) if score_weight is None else score_weight
    log = ScoredChoices(np.zeros(n, np.int64), score + noise, weight, np.tile([0.95, 0.05], (n, 1)))
    return champion, predecessor, np.full((n, 2), 0.5), log


def test_the_cost_penalty_counts() -> None:
    champion, predecessor, utility, log = apart(100, 0.4)
    assert compare_policies(champion, predecessor, utility, log).worse
    dear = utility - [0.0, 0.3]  # the predecessor's choice
    assert not compare_policies(champion, predecessor, dear, log).worse
    assert compare_policies(champion, predecessor, dear, log).mean == pytest.approx(0.3 - 0.1 / 0.95)


def test_few_decisions_of_weight_prove_nothing() -> None:
    assert not compare_policies(*apart(49, 0.1)).worse
    assert compare_policies(*apart(50, 0.1)).worse
    score_weight = np.where(np.arange(1000) < 40, 1.0, 1e-6)
    found = compare_policies(*apart(1000, 0.1, score_weight))
    assert not found.worse and found.effective == found.effective_apart == pytest.approx(40, abs=0.1)


def test_policies_that_agree_do_not_differ() -> None:
    champion, _, utility, log = apart(200, 0.1)
    found = compare_policies(champion, champion, utility, log, MonitorConfig(shift_prior=0.0))
    assert (found.mean, found.upper, found.worse, found.effective_apart) == (0.0, 0.0, False, 0.0)
    assert found.shift == pytest.approx(-0.4)


@pytest.mark.parametrize(("differ", "worse"), [(12, False), (49, False), (50, True)])
def test_a_champion_is_called_worse_only_where_enough_decisions_tell_the_two_apart(differ: int, worse: bool) -> None:
    """Of 129 decisions the two agree on most; where they differ, the champion's answers were scored alike and low."""
    champion, predecessor, utility, log = apart(129, 0.25)
    predecessor[differ:] = champion[differ:]
    score = np.where(np.arange(129) < differ, log.score, 0.5 + 0.05 * np.resize([-1.0, 1.0], 129))
    found = compare_policies(champion, predecessor, utility, replace(log, score=score))
    assert (
        found.upper < 0.0 and found.effective == pytest.approx(129) and found.effective_apart == pytest.approx(differ)
    )
    assert found.worse is worse


def test_snapshots_are_compared_by_the_mean_of_their_estimates_less_cost_penalties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.evaluation.monitor.Estimator", lambda snapshot: snapshot)

    def snapshot(*quality: float) -> Any:
        return SimpleNamespace(
            models=("a", "b"), predict_out_of_fold=lambda ids, *_: np.tile(quality, (len(ids), 1)),
            shrink_to_mean=lambda quality: quality,
        )  # fmt: skip

    actions = (LoggedAction("a", 0.9, 0.5, 0.1), LoggedAction("b", 0.1, 0.5, 0.0))
    prompt = Encoded(np.ones(4, np.float32), np.ones(2, np.float32), 9)
    rows = [
        Observation(i, f"d{i}", f"p{i}", "a", 0.3, "judge", "", prompt, expected=0.5, actions=actions, encoder="e")
        for i in range(1, 61)
    ]
    decisions = logged_decisions(rows, Ledger(), "e")
    found = compare_live(snapshot(0.9, 0.2), snapshot(0.5, 0.6), decisions)
    utility = np.tile([0.7 - 0.1, 0.4], (60, 1))
    net = replace(decisions, score=decisions.score - 0.1)
    new, old = np.tile([1.0, 0.0], (60, 1)), np.tile([0.0, 1.0], (60, 1))
    assert found == compare_policies(new, old, utility, net) and found.worse
    nothing = compare_live(snapshot(0.9, 0.2), snapshot(0.5, 0.6), logged_decisions([], Ledger(), "e"))
    assert not nothing.worse and (nothing.decisions, nothing.upper) == (0, np.inf)


def test_a_comparison_is_as_defined() -> None:
    """The standard error by each decision's influence: what a little more weight on it does to the mean."""
    rng = np.random.default_rng(0)
    n, m = 80, 3
    propensity = rng.dirichlet(np.ones(m), n) * 0.7 + 0.1
    chosen = (propensity.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    log = ScoredChoices(chosen, rng.random(n), rng.uniform(0.2, 1.0, n), propensity)
    new = np.eye(m)[rng.integers(m, size=n)]
    old = np.where(rng.random((n, 1)) < 0.5, new, np.eye(m)[rng.integers(m, size=n)])
    utility = rng.random((n, m))

    def mean(weight: Array) -> float:
        error = log.score - utility[np.arange(n), chosen]
        same = [i for i in range(n) if new[i, chosen[i]] == old[i, chosen[i]] == 1.0]
        shift = sum(weight[i] * error[i] for i in same) / (sum(weight[same]) + MonitorConfig().shift_prior)
        terms = [
            (new[i] - old[i]) @ utility[i]
            + (new[i, chosen[i]] - old[i, chosen[i]]) / propensity[i, chosen[i]] * (error[i] - shift)
            for i in range(n)
        ]
        return float(weight @ terms / weight.sum())

    found, weight = compare_policies(new, old, utility, log), log.score_weight
    step = 1e-6
    influence = np.array([(mean(weight + step * row) - mean(weight)) / step for row in np.eye(n)]) * weight.sum()
    effective = weight.sum() ** 2 / (weight @ weight)
    spread = (weight @ influence**2 / weight.sum()) ** 0.5
    assert found.mean == pytest.approx(mean(weight)) and found.effective == pytest.approx(effective)
    assert found.stderr == pytest.approx(spread / effective**0.5, rel=1e-3)
    assert found.upper == pytest.approx(found.mean + spread * radius(effective), rel=1e-3)
