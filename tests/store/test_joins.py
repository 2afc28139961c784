"""Joins: begun by the pool, moved on once, shown; and the calls that they book."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.types import ModelCard
from store.database import Database
from store.join_calls import JoinBudget, JoinCalls
from store.joins import Join, JoinStore
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from tests.store.pool.test_models import BY_HAND, LOCAL, REMOTE

HAND = BY_HAND.card.name


@pytest.fixture
def pool(database: Database) -> ModelPool:
    made = ModelPool(database)
    made.sync([LOCAL])
    return made


@pytest.fixture
def joins(database: Database) -> JoinStore:
    return JoinStore(database)


def of(joins: JoinStore, model: str) -> Join:
    found = joins.get(model)
    assert found is not None
    return found


def test_models_that_were_there_from_the_start_have_no_join(pool: ModelPool, joins: JoinStore) -> None:
    assert joins.current() == {}
    assert pool.list()[0].join is None and pool.list()[0].unrouted_reason is None


def test_a_model_that_is_added_or_new_in_the_file_joins_and_is_not_routed_to(pool: ModelPool, joins: JoinStore) -> None:
    pool.add(BY_HAND)
    pool.sync([LOCAL, REMOTE])
    assert {name: join.state for name, join in joins.current("added").items()} == {
        HAND: "added",
        REMOTE.card.name: "added",
    }
    assert "not checked yet" in str(pool.get(HAND).unrouted_reason)
    pool.sync([LOCAL, REMOTE])
    assert len(joins.events(of(joins, REMOTE.card.name).id)) == 1, "it is there already"


def test_a_join_moves_on_and_the_pool_is_read_anew(pool: ModelPool, joins: JoinStore) -> None:
    pool.add(BY_HAND)
    before, join = pool.revision(), of(joins, HAND)
    checked = joins.move(join, "checked", "it answers", {"check": {"streams": True}})
    assert checked is not None and pool.revision() == before + 1
    assert joins.move(join, "failed", "too late") is None, "it is checked already"
    joins.note(join.id, {"more": 1})
    now = of(joins, HAND)
    assert (now.state, now.reason, now.found) == ("checked", "it answers", {"check": {"streams": True}, "more": 1})
    assert [(step.state, step.reason) for step in joins.events(join.id)] == [
        ("added", "it was added"),
        ("checked", "it answers"),
    ]
    assert pool.get(HAND).unrouted_reason is None
    with pytest.raises(AssertionError, match="from checked to adopted"):
        joins.move(checked, "adopted", "")


def test_a_model_that_comes_back_joins_anew(pool: ModelPool, joins: JoinStore) -> None:
    pool.add(BY_HAND, check=False)
    first = of(joins, HAND)
    assert first.state == "trial"
    pool.remove(HAND)
    assert joins.current() == {}, "nobody waits for it any more"
    pool.add(BY_HAND)
    assert of(joins, HAND).id > first.id and of(joins, HAND).state == "added"


def test_one_that_failed_is_checked_again_once_it_is_changed(pool: ModelPool, joins: JoinStore) -> None:
    pool.add(BY_HAND)
    joins.move(of(joins, HAND), "failed", "nobody is there")
    assert pool.get(HAND).unrouted_reason == "it failed: nobody is there"
    pool.update(HAND, context=99)
    assert (of(joins, HAND).state, of(joins, HAND).reason) == ("added", "it was changed (context)")


def test_unknown_figures_stay_unknown(pool: ModelPool) -> None:
    pool.add(replace(BY_HAND, unknown=frozenset({"price_output", "context"})), check=False)
    found = pool.get(HAND)
    assert found.unknown == {"price_output", "context"}
    assert (found.card.price_output, found.card.context) == (0.0, 8192)
    assert "price_output is not known" in str(found.unrouted_reason)
    pool.update(HAND, price_output=0.0)
    assert pool.get(HAND).unrouted_reason is None


def test_calls_are_booked_once_and_within_the_budget(pool: ModelPool, joins: JoinStore, database: Database) -> None:
    pool.add(BY_HAND)
    join, calls, budget = of(joins, HAND).id, JoinCalls(database), JoinBudget(1.0, 3)
    first = calls.book(join, "probe", "p1", HAND, 0.4, budget)
    assert first is not None and first.state == "booked"
    assert calls.spent(join).usd == 0.4, "until it is known"
    calls.done(first, "an answer", cost_usd=0.1, output_tokens=7)
    assert calls.spent(join).usd == pytest.approx(0.1)
    again = calls.book(join, "probe", "p1", HAND, 0.4, budget)
    assert again is not None and (again.id, again.state, again.answer) == (first.id, "done", "an answer")
    assert calls.book(join, "probe", "p2", HAND, 0.95, budget) is None, "beyond the dollars"
    second = calls.book(join, "rival", "p1", "local/a", 0.3, budget)
    assert second is not None
    calls.failed(second, "it timed out", paid=True)
    third = calls.book(join, "judge", "p1", "local/a", 0.3, budget)
    assert third is not None
    assert calls.book(join, "judge", "p2", "local/a", 0.0, budget) is None, "beyond the number"
    assert calls.lose(join) == 1
    assert [call.state for call in calls.list(join)] == ["done", "failed", "lost"]
    assert calls.spent(join).usd == pytest.approx(0.7)
    assert calls.spent(join, ["probe"]).calls == 1


def test_prices_and_context_are_those_published_for_the_endpoint() -> None:
    from store.columns import utc_now
    from store.pool.file import pool_model

    card, openai = ModelCard("openai/gpt-4o"), Provider("openai", "https://api.openai.com/v1", model="gpt-4o")
    known = pool_model(card, openai, given=(), now=utc_now())
    assert (known.card.price_input, known.card.price_output, known.card.context) == (2.5, 10.0, 128_000)
    assert not known.unknown
    cheaper = pool_model(replace(card, price_input=1.0), openai, given=("price_input",), now=utc_now())
    assert (cheaper.card.price_input, cheaper.card.price_output) == (1.0, 10.0)
    elsewhere = Provider("openai", "http://127.0.0.1:9/v1", model="gpt-4o")
    assert pool_model(card, elsewhere, given=(), now=utc_now()) == PoolModel(
        replace(card, context=8192), elsewhere, unknown=frozenset({"price_input", "price_output", "context"})
    )
