"""Nobody moves a task further than their cap of honest words would, however much they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from agent.feedback.ledger import LedgerConfig
from agent.router import Router
from agent.types import Candidate, Observation, RouteRequest, Turn
from tests.agent import clusters
from tests.agent.clusters import CARDS, encoded, observed

GREEDY = RouteRequest((Turn("user", "hello"),), explore=False, cost_quality_tradeoff=1.0)
WORST = "v/tiny"
CAP = int(LedgerConfig().quota.rater)
ANYWHERE = np.random.default_rng(0)

Change = Callable[[Observation, int], Observation]
"""Makes the n-th row of a flood out of a nameless user's honest form of it."""


def candidate(router: Router, kind: str, model: str) -> Candidate:
    decision = router.route(encoded(kind, 900), GREEDY, ANYWHERE)
    return next(c for c in decision.candidates if c.model == model)


def row_about(router: Router, seq: int, kind: str, model: str, score: float) -> Observation:
    """A nameless user's score of an answer, on a decision of its own."""
    task = router.route(encoded(kind, 900), GREEDY, ANYWHERE).task.id
    row = observed(seq, kind, model, score, prompt=seq % 50)
    expected = candidate(router, kind, model).quality
    return replace(row, decision_id=f"x{seq}", rater="", expected=expected, task=task)


@cache
def honest_rows() -> tuple[Observation, ...]:
    """What honest users said about everything but `WORST`."""
    router, rng = Router(clusters.snapshot(), CARDS), np.random.default_rng(1)
    rows = []
    for seq in range(101, 401):
        kind, model = str(rng.choice(clusters.KINDS)), str(rng.choice(clusters.MODELS[:3]))
        rows.append(row_about(router, seq, kind, model, float(rng.random() < clusters.truth(kind, model))))
        router.learn_one(rows[-1])
    return tuple(rows)


def busy_router() -> Router:
    """A router that heard honest users."""
    router = Router(clusters.snapshot(), CARDS)
    for row in honest_rows():
        router.learn_one(row)
    return router


def flood(count: int, change: Change = lambda row, n: row, kind: str = "sums") -> float:
    """How far ``count`` rows of full marks for `WORST` on a kind raise what is expected of it there."""
    router = busy_router()
    before, start = candidate(router, kind, WORST).quality, router.position + 1
    praise = row_about(router, start, kind, WORST, 1.0)
    for n in range(count):
        router.learn_one(change(replace(praise, seq=start + n, decision_id=f"flood{n}"), n))
    return candidate(router, kind, WORST).quality - before


def test_many_nameless_words_would_move_it() -> None:
    assert flood(60) > flood(CAP) + 0.1 > flood(1) + 0.2


def test_one_rater_moves_a_task_no_more_than_their_cap_of_words() -> None:
    assert flood(600, lambda row, n: replace(row, rater="eve")) <= flood(CAP)


def test_one_decision_moves_a_task_no_more_than_two_words() -> None:
    def one_decision(row: Observation, n: int) -> Observation:
        return replace(row, decision_id="x", rater=f"sock{n}")

    assert flood(300, one_decision) <= flood(2)


def test_a_group_moves_a_task_no_more_than_its_caps() -> None:
    assert flood(800, lambda row, n: replace(row, rater=f"eve{n % 3}")) <= flood(3 * CAP)


def test_made_up_names_move_a_task_no_more_than_the_cap_of_their_key() -> None:
    cap = int(LedgerConfig().quota.key)
    assert flood(800, lambda row, n: replace(row, rater=f"sock{n}", key="partner")) <= flood(cap)


def test_a_flood_on_one_task_leaves_the_best_model_of_every_other() -> None:
    router = busy_router()
    start = router.position + 1
    praise = row_about(router, start, "sums", WORST, 1.0)
    for n in range(500):
        router.learn_one(replace(praise, seq=start + n, decision_id=f"flood{n}", rater=f"eve{n % 5}"))
    for kind in set(clusters.KINDS) - {"sums"}:
        assert router.route(encoded(kind, 901), GREEDY, ANYWHERE).model == clusters.TALENT[kind]
