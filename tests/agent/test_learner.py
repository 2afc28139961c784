"""Rows of the log that cannot be learned change nothing, whatever is wrong with them, and the next rows are learned."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.estimate import Estimator
from agent.feedback.ledger import Ledger
from agent.feedback.state import feedback_state
from agent.index.prompts import PromptIndex
from agent.observations import Observation, SetAside
from agent.online.estimator import OnlineEstimator
from agent.router import Router
from agent.types import Encoded, RouteRequest, SnapshotEstimate
from tests.agent import clusters
from tests.agent.clusters import CARDS, KINDS, MODELS, observed

BAD = 118
"""Position of the odd row; a later one revises it."""


def log(count: int = 40) -> list[Observation]:
    """Scores with raters, comparisons and revisions, from position 101 on."""
    rows = [observed(101 + i, KINDS[i % 4], MODELS[i % 3], (i % 5) / 4, prompt=i % 9) for i in range(count)]
    rows = [replace(row, encoder="made", expected=0.5, rater=f"r{row.seq % 6}", key="partner") for row in rows]
    for i in range(5, count, 7):
        rows[i] = replace(rows[i], other="v/tiny", expected_other=0.4)
    for i in range(12, count, 9):
        first = rows[i - 4]
        rows[i] = replace(first, seq=rows[i].seq, score=0.9, revises=first.score)
    return rows


def encoded(**fields: Any) -> Callable[[Observation], Observation]:
    """Another encoding of a row's prompt."""
    return lambda row: replace(row, encoded=replace(row.encoded, **fields))


D, F = clusters.DIMENSION, len(clusters.encoded("code").features)
ODD: dict[str, Callable[[Observation], Observation]] = {
    "of another encoder": lambda row: replace(row, encoder="another/encoder"),
    "of another encoder, as long": encoded(embedding=np.ones(D + 1, np.float32)),
    "an embedding too short": encoded(embedding=np.ones(D - 1, np.float32)),
    "no embedding": encoded(embedding=np.zeros(0, np.float32)),
    "an embedding of no vector": encoded(embedding=np.ones((1, D), np.float32)),
    "an embedding that is not finite": encoded(embedding=np.full(D, np.nan, np.float32)),
    "features of another version": encoded(features=np.ones(F + 3, np.float32)),
    "features that are not finite": encoded(features=np.full(F, np.inf, np.float32)),
    "no score": lambda row: replace(row, score=math.nan),
    "a score above 1": lambda row: replace(row, score=1.5),
    "revises no score": lambda row: replace(row, revises=math.inf),
    "expected too much": lambda row: replace(row, expected=1e300),
    "expected too much of the other": lambda row: replace(row, other="v/tiny", expected_other=-3.0),
    "compared with itself": lambda row: replace(row, other=row.model, expected_other=0.5),
    "no prompt": lambda row: replace(row, encoded=None),  # type: ignore[arg-type]
    "no model": lambda row: replace(row, model=[]),  # type: ignore[arg-type]
    "a task's probability that is none": lambda row: replace(row, estimate=SnapshotEstimate(1, 0, {0: math.nan}, {})),
    "an estimate that is none": lambda row: replace(row, estimate="0.5"),  # type: ignore[arg-type]
    "a score that is no number": lambda row: replace(row, score="good"),  # type: ignore[arg-type]
}


def learned(rows: Sequence[Observation | SetAside], page: int = 1000) -> tuple[Router, list[SetAside]]:
    router = Router(clusters.snapshot(), CARDS)
    aside = [row for start in range(0, len(rows), page) for row in router.learn_many(rows[start : start + page])]
    return router, aside


def without(rows: list[Observation], seq: int = BAD) -> list[Observation | SetAside]:
    """The log as if the row at a position never came."""
    return [SetAside(seq, "") if row.seq == seq else row for row in rows]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_odd_row_is_set_aside_and_leaves_what_a_log_without_it_leaves(
    odd: Callable[[Observation], Observation],
) -> None:
    rows = log()
    router, aside = learned([odd(row) if row.seq == BAD else row for row in rows])
    assert [row.seq for row in aside] == [BAD] and aside[0].reason
    assert (router.position, router.n_set_aside) == (140, 1)
    assert router.digest() == learned(without(rows))[0].digest()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Ledger, "_learn_one"),
        (Ledger, "_weigh"),
        (Ledger, "_update"),
        (OnlineEstimator, "prepare"),
        (PromptIndex, "learn_one"),
    ],
)
@pytest.mark.parametrize("page", [1, 1000])
def test_a_fault_anywhere_leaves_nothing_half_applied(
    monkeypatch: pytest.MonkeyPatch, kind: type, method: str, page: int
) -> None:
    rows, whole, now = log(), getattr(kind, method), [0]
    watched = Ledger.prepare

    def prepare(self: Ledger, row: Observation) -> Any:
        now[0] = row.seq
        return watched(self, row)

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        if now[0] == BAD:
            raise ZeroDivisionError("a fault")
        return whole(self, *args, **kwargs)

    expected = learned(without(rows))[0].digest()
    monkeypatch.setattr(Ledger, "prepare", prepare)
    monkeypatch.setattr(kind, method, faulty)
    router, aside = learned(rows, page)
    assert [row.seq for row in aside] == [BAD] and "ZeroDivisionError" in aside[0].reason
    assert router.digest() == expected


def test_what_is_learned_does_not_depend_on_the_pages() -> None:
    rows = [ODD["no score"](row) if row.seq == BAD else row for row in log(100)]
    rows[90] = replace(rows[90], model="n/new")
    assert len({learned(rows, page)[0].digest() for page in (1, 7, 1000)}) == 1


def decided(row: Observation, router: Router) -> Observation:
    """The row as the log holds it where ``router`` decided."""
    decision = router.route(row.encoded, RouteRequest((), explore=False), np.random.default_rng(0))
    return replace(row, estimate=decision.estimate)


def test_the_estimate_of_a_decision_is_read_where_this_snapshot_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = clusters.snapshot().with_version(3)
    logged = [decided(row, Router(snapshot, CARDS)) for row in log(100)]
    computed, read = Router(snapshot, CARDS), Router(snapshot, CARDS)
    computed.learn_many([replace(row, estimate=None) for row in logged])
    monkeypatch.delattr(Estimator, "estimate_each")
    assert read.learn_many(logged) == []
    prompts = [row.encoded for row in logged[:9]]
    monkeypatch.undo()
    for prompt in prompts:
        one, other = (
            r.route(prompt, RouteRequest((), explore=False), np.random.default_rng(0)) for r in (computed, read)
        )
        for a, b in zip(one.candidates, other.candidates, strict=True):
            assert a.model == b.model and a.quality == pytest.approx(b.quality, abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, snapshot=2),
        lambda e: replace(e, quality={}),
        lambda e: replace(e, quality=dict.fromkeys(e.quality, math.nan)),
        lambda e: None,
    ],
    ids=["of another snapshot", "of other models", "not a number", "none"],
)
def test_the_estimate_is_computed_where_it_was_not_logged_or_is_of_another_snapshot(change: Any) -> None:
    snapshot = clusters.snapshot().with_version(3)
    logged = [decided(row, Router(snapshot, CARDS)) for row in log()]
    changed, computed = Router(snapshot, CARDS), Router(snapshot, CARDS)
    assert changed.learn_many([replace(row, estimate=change(row.estimate)) for row in logged]) == []
    computed.learn_many([replace(row, estimate=None) for row in logged])
    assert changed.digest() == computed.digest()


def logged_as_it_learns(router: Router, rows: Sequence[Observation]) -> list[Observation]:
    """Rows as the log holds them where ``router``, which learns them, made each one's decision just before it."""
    found = []
    for row in rows:
        found.append(decided(row, router))
        assert router.learn_many(found[-1:]) == []
    return found


def test_a_row_is_in_the_neighbourhood_that_its_decision_found_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = clusters.snapshot().with_version(3)
    served = Router(snapshot, CARDS)
    logged = logged_as_it_learns(served, log(100))
    found = [row for row in logged if row.estimate and row.estimate.neighbourhood is not None]
    assert len(found) > 80
    searches, search = [0], PromptIndex.nearest

    def counted(*args: Any) -> Any:
        searches[0] += 1
        return search(*args)

    monkeypatch.setattr(PromptIndex, "nearest", counted)
    for page in (1, 7, 1000):
        searches[0], replica = 0, Router(snapshot, CARDS)
        for start in range(0, len(logged), page):
            assert replica.learn_many(logged[start : start + page]) == []
        assert replica.digest() == served.digest() and searches[0] <= len(logged) - len(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, snapshot=2, neighbourhood=101),
        lambda e: replace(e, neighbourhood=17),
        lambda e: replace(e, neighbourhood=None),
    ],
    ids=["of another snapshot", "none of its prompts is held", "not logged"],
)
def test_a_neighbourhood_is_searched_where_none_is_known(change: Any) -> None:
    snapshot = clusters.snapshot().with_version(3)
    served = Router(snapshot, CARDS)
    logged = logged_as_it_learns(served, log())
    changed = Router(snapshot, CARDS)
    assert changed.learn_many([replace(row, estimate=change(row.estimate)) for row in logged]) == []
    assert changed._memory.digest() == served._memory.digest()


def test_a_refresh_passes_over_the_same_rows() -> None:
    rows = log()
    odd = [kind(row) if row.seq == BAD else row for row in rows for kind in [ODD["expected too much"]]]
    found = feedback_state(None, odd).state()
    assert found == feedback_state(None, [row for row in rows if row.seq != BAD]).state()


def test_a_prompt_is_estimated_the_same_with_whichever_others() -> None:
    estimator = Estimator(clusters.snapshot())
    prompts: list[Encoded] = [row.encoded for row in log(30)]
    together = estimator.estimate_each(prompts)
    for start in (1, 3, 11, 29):
        apart = estimator.estimate_each(prompts[start:])
        assert np.array_equal(apart.quality, together.quality[start:])
        assert np.array_equal(apart.task_probabilities, together.task_probabilities[start:])
    assert np.array_equal(estimator.points(prompts[11:]), estimator.points(prompts)[11:])
    alone = np.concatenate([estimator.estimate(prompt).quality for prompt in prompts])
    assert np.allclose(together.quality, alone, atol=1e-5)


def test_requests_are_routed_while_a_posterior_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a drift or a model that nobody has scored before makes it be; it takes a second where many scores are held."""
    rebuilt, entered, go_on = OnlineEstimator.rebuilt, threading.Event(), threading.Event()

    def slow(self: OnlineEstimator, *args: Any) -> Any:
        entered.set()
        assert go_on.wait(20.0)
        return rebuilt(self, *args)

    router, _ = learned(log(10))
    monkeypatch.setattr(OnlineEstimator, "rebuilt", slow)
    learner = threading.Thread(target=router.learn_one, args=(observed(111, "code", "n/new", 1.0),))
    learner.start()
    assert entered.wait(20.0)
    decision = router.route(clusters.encoded("code", 1), RouteRequest((), explore=False), np.random.default_rng(0))
    go_on.set()
    learner.join()
    assert (decision.position, router.position) == (110, 111)
