"""However many ratings somebody posts, a task moves no further than by their caps in honest ratings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Self

import numpy as np
import pytest

from agent.feedback.ledger import Ledger, LedgerConfig
from agent.feedback.quota import QuotaConfig
from agent.observations import Observation
from agent.router import Router, RouterConfig
from agent.types import Candidate, RouteRequest, Turn
from tests.agent import clusters
from tests.agent.clusters import CARDS, encoded, observed

GREEDY = RouteRequest((Turn("user", "hello"),), explore=False, cost_quality_tradeoff=1.0)
WORST = "v/tiny"
CAPS = LedgerConfig().quota
NO_CAPS = LedgerConfig(QuotaConfig(rater=1e9, judge=1e9, key=1e9), decision_cap=1e9)

Change = Callable[[Observation, int], Observation]
"""Makes the n-th row of a flood out of a nameless user's honest form of it."""


def candidate(router: Router, kind: str, model: str) -> Candidate:
    decision = router.route(encoded(kind, 900), GREEDY, np.random.default_rng(0))
    return next(c for c in decision.candidates if c.model == model)


def row_about(router: Router, seq: int, kind: str, model: str, score: float) -> Observation:
    """A nameless user's score of an answer, on a decision of its own."""
    task = router.route(encoded(kind, 900), GREEDY, np.random.default_rng(0)).task.id
    row = observed(seq, kind, model, score, prompt=seq % 50)
    expected = candidate(router, kind, model).quality
    return replace(row, decision_id=f"x{seq}", rater="", expected=expected, task=task)


@cache
def honest_rows() -> tuple[Observation, ...]:
    """Scores by honest users of everything but `WORST`."""
    router, rng = Router(clusters.snapshot(), CARDS), np.random.default_rng(1)
    rows = []
    for seq in range(101, 401):
        kind, model = str(rng.choice(clusters.KINDS)), str(rng.choice(clusters.MODELS[:3]))
        rows.append(row_about(router, seq, kind, model, float(rng.random() < clusters.truth(kind, model))))
        router.learn_one(rows[-1])
    return tuple(rows)


def busy_router(local: bool = True) -> Router:
    """A router with honest users' feedback; ``local``: whether neighbourhoods have effects of their own."""
    router = Router(clusters.snapshot(), CARDS, config=RouterConfig(neighbourhoods=local))
    for row in honest_rows():
        router.learn_one(row)
    return router


def flood(count: int, change: Change = lambda row, n: row, expected: float | None = None, local: bool = True) -> float:
    """How far ``count`` rows of full marks for `WORST` on a kind raise its estimate there.

    ``expected`` is what the decisions expected; by default the estimate. Where that is NaN, no rater can be found out,
    and nothing but the caps stands between the flood and the estimate.
    """
    router = busy_router(local)
    before, start = candidate(router, "sums", WORST).quality, router.position + 1
    praise = row_about(router, start, "sums", WORST, 1.0)
    if expected is not None:
        praise = replace(praise, expected=expected)
    for n in range(count):
        router.learn_one(change(replace(praise, seq=start + n, decision_id=f"flood{n}"), n))
    return candidate(router, "sums", WORST).quality - before


@cache
def honest_flood(count: int, expected: float | None = None, local: bool = True) -> float:
    """The same by nameless users, whom no cap holds."""
    return flood(count, expected=expected, local=local)


def one_rater(row: Observation, n: int) -> Observation:
    return replace(row, rater="eve")


def one_decision(row: Observation, n: int) -> Observation:
    return replace(row, decision_id="x", rater=f"sock{n}")


def a_group(row: Observation, n: int) -> Observation:
    return replace(row, rater=f"eve{n % 3}")


def one_key(row: Observation, n: int) -> Observation:
    return replace(row, rater=f"sock{n}", key="partner")


FLOODS = pytest.mark.parametrize(
    ("count", "change", "cap"),
    [
        (200, one_rater, CAPS.rater),
        (100, one_decision, LedgerConfig().decision_cap),
        (300, a_group, 3 * CAPS.rater),
        (800, one_key, CAPS.key),
    ],
)


def test_many_nameless_ratings_would_move_it() -> None:
    """By tasks alone: a neighbourhood's estimate soon reaches the ratings."""
    far, near, one = (honest_flood(count, local=False) for count in (60, int(CAPS.rater), 1))
    assert far > near + 0.1 > one + 0.2


@FLOODS
@pytest.mark.parametrize("expected", [None, math.nan])
def test_a_flood_moves_a_task_no_more_than_its_cap_of_honest_ratings(
    count: int, change: Change, cap: float, expected: float | None
) -> None:
    assert 0.0 < flood(count, change, expected) <= honest_flood(int(cap), expected)


class UncappedLedger(Ledger):
    @classmethod
    def from_state(cls, state: Any, *_: Any, n_evaluated: float = 0.0, **__: Any) -> Self:
        return super().from_state(state, NO_CAPS, n_evaluated=n_evaluated)


@FLOODS
def test_without_caps_it_would(count: int, change: Change, cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = honest_flood(int(cap), math.nan, local=False)
    monkeypatch.setattr("agent.learner.Ledger", UncappedLedger)
    assert flood(count, change, math.nan, local=False) > honest + 0.02


def test_a_flood_on_one_task_leaves_every_other_task_alone() -> None:
    router = busy_router()
    before = {kind: candidate(router, kind, WORST).quality for kind in clusters.KINDS}
    start = router.position + 1
    praise = row_about(router, start, "sums", WORST, 1.0)
    for n in range(500):
        router.learn_one(replace(praise, seq=start + n, decision_id=f"flood{n}", rater=f"eve{n % 5}"))
    raised = {kind: candidate(router, kind, WORST).quality - before[kind] for kind in clusters.KINDS}
    assert raised.pop("sums") > 0.2 > 0.1 > max(raised.values())
    for kind in raised:
        assert router.route(encoded(kind, 901), GREEDY, np.random.default_rng(0)).model == clusters.TALENT[kind]
