"""Routing on trial: the coin decides only where the two routers differ, with the propensities that the decision says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from agent.observations import Observation
from agent.router import Router
from agent.trial import Trial, route_on_trial
from agent.types import Decision, Encoded, RouteRequest, Turn
from tests.agent import clusters
from tests.agent.clusters import CARDS, KINDS, encoded

TRIAL = Trial(4, "trial", champion=7, challenger=8, share=1.0)
REQUEST = RouteRequest((Turn("user", "hello"),), cost_quality_tradeoff=1.0)


@pytest.fixture(scope="module")
def champion() -> Router:
    return Router(clusters.snapshot(), CARDS)


@pytest.fixture(scope="module")
def challenger(champion: Router) -> Router:
    """One that has learned to think little of what is best at code."""
    router = Router(champion.snapshot, CARDS)
    prompt = encoded("code", 600)
    best = champion.route(prompt, REQUEST, np.random.default_rng(0)).candidates[0].model
    for i in range(60):
        row = Observation(101 + i, f"d{i}", f"p{i}", best, 0.0, "judge", "", encoded("code", 601 + i), expected=0.5)
        router.learn_one(row)
    return router


def route(
    champion: Router, challenger: Router, prompt: Encoded, seed: int = 0, trial: Trial = TRIAL, **changes: object
) -> Decision:
    request = replace(REQUEST, **changes)  # type: ignore[arg-type]
    return route_on_trial(champion, challenger, trial, prompt, request, np.random.default_rng(seed))


def test_where_both_choose_alike_nothing_changes(champion: Router, challenger: Router) -> None:
    for kind in KINDS:
        if kind != "code":
            prompt = encoded(kind, 500)
            decision = route(champion, challenger, prompt)
            assert decision.trial is None
            assert decision.candidates == champion.route(prompt, REQUEST, np.random.default_rng(0)).candidates


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_where_they_differ_a_coin_decides_a_share_with_exact_propensities(
    champion: Router, challenger: Router, share: float
) -> None:
    prompt, trial = encoded("code", 500), replace(TRIAL, share=share)
    alone = champion.route(prompt, REQUEST, np.random.default_rng(0))
    before = {c.model: c.propensity for c in alone.candidates}
    decisions = [route(champion, challenger, prompt, seed, trial) for seed in range(600)]
    choice = decisions[0].trial
    assert choice is not None and choice.trial == 4
    pair = (
        alone.candidates[0].model,
        challenger.route(prompt, replace(REQUEST, explore=False), np.random.default_rng(0)).model,
    )
    assert (choice.champion, choice.challenger) == pair and pair[0] != pair[1]
    propensity = {c.model: c.propensity for c in decisions[0].candidates}
    for model, p in propensity.items():
        assert p == pytest.approx((1 - share) * before[model] + share * 0.5 * (model in pair))
    assert sum(propensity.values()) == pytest.approx(1.0)
    counts = Counter(d.model for d in decisions)
    for model, p in propensity.items():
        assert abs(counts[model] - 600 * p) <= 4 * (600 * p * (1 - p)) ** 0.5
    assert all(d.explored == (d.model not in pair) for d in decisions)
    assert [c.utility for c in decisions[0].candidates] == [c.utility for c in alone.candidates]


def test_the_expected_regret_is_by_the_mean_of_both_estimates_and_never_negative(
    champion: Router, challenger: Router
) -> None:
    prompt = encoded("code", 500)
    decision = route(champion, challenger, prompt, cost_quality_tradeoff=0.8)
    assert decision.trial is not None
    greedy = RouteRequest(REQUEST.turns, cost_quality_tradeoff=0.8, explore=False)
    sides = [
        {c.model: c.quality - c.cost_penalty for c in r.route(prompt, greedy, np.random.default_rng(0)).candidates}
        for r in (champion, challenger)
    ]
    mean = {model: (sides[0][model] + sides[1][model]) / 2 for model in sides[0]}
    choice = decision.trial
    assert choice.champion_utility == pytest.approx(mean[choice.champion])
    assert choice.challenger_utility == pytest.approx(mean[choice.challenger])
    alone = champion.route(prompt, replace(greedy, explore=True), np.random.default_rng(0))
    given_up = sum(c.propensity * mean[c.model] for c in alone.candidates)
    given_up -= sum(c.propensity * mean[c.model] for c in decision.candidates)
    assert choice.expected_regret == pytest.approx(max(given_up, 0.0))


def test_a_request_that_may_not_be_explored_is_never_on_trial(champion: Router, challenger: Router) -> None:
    decision = route(champion, challenger, encoded("code", 500), explore=False)
    assert decision.trial is None and decision.chosen.propensity == 1.0


def test_a_challenger_whose_model_cannot_take_the_request_has_no_part_in_it(
    champion: Router, challenger: Router
) -> None:
    prompt = encoded("code", 500)
    usual = route(champion, challenger, prompt).trial
    assert usual is not None
    others = tuple(card.name for card in CARDS if card.name != usual.challenger)
    found = route(champion, challenger, prompt, candidates=others)
    assert found.trial is None or usual.challenger not in (found.trial.champion, found.trial.challenger)
    assert route(champion, challenger, prompt, candidates=(usual.champion,)).trial is None


def test_a_model_that_one_snapshot_alone_knows_is_not_compared(champion: Router, challenger: Router) -> None:
    """It would have to win against the other's caution toward newcomers."""
    prompt = encoded("code", 500)
    usual = route(champion, challenger, prompt).trial
    assert usual is not None
    known = champion.snapshot
    models = ["v/former" if model == usual.champion else model for model in known.models]
    heads = tuple(head for head in known.heads if head.model != usual.champion)
    stranger = Router(replace(known, meta={**known.meta, "models": models}, heads=heads), CARDS)
    other = stranger.route(prompt, replace(REQUEST, explore=False), np.random.default_rng(0))
    assert other.model != usual.champion and usual.champion in {c.model for c in other.candidates}
    assert route(champion, stranger, prompt).trial is None
    assert route(stranger, champion, prompt).trial is None


def test_the_reason_says_what_is_compared(champion: Router, challenger: Router) -> None:
    decision = route(champion, challenger, encoded("code", 500))
    assert decision.trial is not None
    assert f"snapshot 7 would choose {decision.trial.champion}, snapshot 8, which is on trial" in decision.why
    held = route(champion, challenger, encoded("code", 500), trial=replace(TRIAL, kind="hold-back", share=0.3))
    assert "snapshot 8, its predecessor, to test its promotion" in held.why
