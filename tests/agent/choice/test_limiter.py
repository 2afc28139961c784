"""The exploration limiter: a burst, then a share, per key; and what exploring one model may cost."""

from __future__ import annotations

import numpy as np

from agent.choice.limiter import ExplorationBudget, ExplorationLimiter
from agent.types import Candidate, Decision, Encoded, TaskAssignment


def decided(explored: bool, price: float = 0.0, model: str = "new") -> Decision:
    """A decision for the leader, or for ``model``, whose utility is lower by ``price``."""
    candidates = tuple(Candidate(name, 0.5, 0.1, 0.0, 0.5 - p, 0.5) for name, p in (("lead", 0.0), (model, price)))
    encoded = Encoded(np.zeros(2, np.float32), np.zeros(1, np.float32), 9)
    chosen = model if explored else "lead"
    return Decision(chosen, candidates, TaskAssignment(0, "t", 1.0), (), 1, 0, encoded, explored, "")


def explored(limiter: ExplorationLimiter, key: str, requests: int, chance: float = 1.0) -> int:
    rng, count = np.random.default_rng(0), 0
    for _ in range(requests):
        explore = limiter.may_explore(key) and bool(rng.random() < chance)
        limiter.count(key, decided(explore))
        count += explore
    return count


def test_after_its_burst_a_key_explores_its_share_and_no_more() -> None:
    limiter = ExplorationLimiter(ExplorationBudget(share=0.1, burst=20.0))
    assert explored(limiter, "a", 20) == 20
    assert 95 <= explored(limiter, "a", 1000) <= 105


def test_every_key_has_its_own_tokens() -> None:
    limiter = ExplorationLimiter(ExplorationBudget(share=0.0, burst=5.0))
    assert not limiter.may_explore("a")
    limiter = ExplorationLimiter(ExplorationBudget(share=0.01, burst=5.0))
    assert (explored(limiter, "a", 50), explored(limiter, "b", 50)) == (5, 5)


def test_a_key_below_its_share_is_never_refused_and_saves_no_more_than_the_burst() -> None:
    limiter = ExplorationLimiter(ExplorationBudget(share=0.2, burst=3.0))
    assert explored(limiter, "a", 2000, chance=0.05) > 60
    assert explored(limiter, "a", 4) >= 3 and explored(limiter, "a", 10) <= 4


def tries(limiter: ExplorationLimiter, price: float, requests: int, *, scored: float = 0.0, keys: int = 1) -> int:
    """How many of ``requests`` explore "new" wherever that is affordable, where a share of them is ``scored``."""
    rng, scores, count = np.random.default_rng(0), 0.0, 0
    for i in range(requests):
        position = int(scores)
        within = limiter.affordable({"lead": 100.0, "new": scores}, position)["new"] >= price
        key = f"k{i % keys}"
        allowed = limiter.may_explore(key) and within
        limiter.count(key, decided(allowed, price))
        count += allowed
        scores += allowed and rng.random() < scored
    return count


def test_a_model_that_nobody_scores_is_explored_a_few_times_however_many_keys_ask() -> None:
    assert 0 < tries(ExplorationLimiter(), 0.0, 5000) <= 20
    assert 0 < tries(ExplorationLimiter(), 0.1, 5000, keys=1000) < 10


def test_scores_pay_for_more_where_trials_cost_nothing_and_one_answer_in_five_is_enough() -> None:
    generous = ExplorationBudget(share=1.0)
    assert tries(ExplorationLimiter(generous), 0.0, 200, scored=1.0) == 200
    assert tries(ExplorationLimiter(generous), 0.0, 200, scored=0.4) > 150


def test_what_is_expected_to_cost_is_explored_within_its_budget_and_income() -> None:
    budget = ExplorationBudget(share=1.0, regret=1.0, income=0.001)
    assert tries(ExplorationLimiter(budget), 0.3, 1000, scored=1.0) == 3
    assert tries(ExplorationLimiter(budget), 1e6, 1000, scored=1.0) == 0


def test_other_feedback_is_income() -> None:
    limiter = ExplorationLimiter(ExplorationBudget(regret=0.5, income=0.01, unscored=0.0))
    assert limiter.affordable({"lead": 0.0, "new": 0.0}, 0)["new"] == 0.5
    limiter.count("k", decided(True, 0.4))
    assert limiter.affordable({"lead": 0.0, "new": 0.0}, 0)["new"] < 0.11
    assert 0.29 < limiter.affordable({"lead": 0.0, "new": 0.0}, 20)["new"] < 0.31
    assert limiter.affordable({"lead": 0.0, "new": 0.0}, 200)["new"] == 0.5


def test_a_few_unlucky_trials_of_a_newcomer_do_not_end_its_trials() -> None:
    """Five of them at what its first scores suggest had used the budget up, and the rest of a stream brought none back."""
    assert tries(ExplorationLimiter(ExplorationBudget(share=1.0)), 0.25, 12, scored=1.0) >= 7
