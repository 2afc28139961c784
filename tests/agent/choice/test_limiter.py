"""The exploration limiter: a burst, then a share, per key."""

from __future__ import annotations

import numpy as np

from agent.choice.limiter import ExplorationBudget, ExplorationLimiter


def explored(limiter: ExplorationLimiter, key: str, requests: int, chance: float = 1.0) -> int:
    rng, count = np.random.default_rng(0), 0
    for _ in range(requests):
        explore = limiter.may_explore(key) and bool(rng.random() < chance)
        limiter.count(key, explored=explore)
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
