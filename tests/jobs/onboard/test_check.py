"""The check of a model that joins, against a real endpoint: what it takes, what is refused, and what becomes of the join."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.types import ModelCard
from jobs.calls.client import LONGEST_WAIT_S, JobClient
from jobs.context import JobContext
from jobs.onboard.run import onboard
from jobs.settings import JobSettings
from store.join_calls import JoinCalls
from store.joins import Join, JoinStore
from store.pool.file import PoolModel, Provider
from tests.upstream import Upstream

NAME = "acme/new"


@pytest.fixture
def ctx(settings: JobSettings) -> Iterator[JobContext]:
    """A store whose pool was filled before."""
    with JobContext(settings, {**os.environ, "ACME_KEY": "sesame"}) as opened:
        assert opened.pool.list()
        yield opened


def joined(ctx: JobContext, endpoint: Upstream, *, card: ModelCard | None = None, **changes: Any) -> Join:
    """The join of a model at ``endpoint`` after the job; waits are not waited for but kept in ``ctx.waits``."""
    model = PoolModel(card or ModelCard(NAME, price_input=1.0, price_output=2.0),
                      Provider("openai", endpoint.base_url, "ACME_KEY"))  # fmt: skip
    ctx.pool.add(replace(model, **changes))
    return run(ctx)


def run(ctx: JobContext, waits: list[float] | None = None) -> Join:
    client = JobClient(ctx.env, timeout_s=5.0, calls_per_minute=6e6, sleep=([] if waits is None else waits).append)
    onboard(ctx, lambda stage, share: None, client)
    client.close()
    found = JoinStore(ctx.database).get(NAME)
    assert found is not None
    return found


def test_a_model_is_checked_and_its_card_says_what_was_found(ctx: JobContext) -> None:
    with Upstream() as endpoint:
        join = joined(ctx, endpoint)
    assert join.state == "trial"
    assert join.found["check"] == {
        "failed": None, "limit": "max_tokens", "streams": True, "temperature": True, "tools": True, "json": True,
        "images": True, "context": None,
    }  # fmt: skip
    assert ctx.pool.get(NAME).card.capabilities == {"tools", "json", "vision"}
    assert endpoint.seen[0]["max_tokens"] == 1 and {r.headers["authorization"] for r in endpoint.received} == {
        "Bearer sesame"
    }
    steps = JoinStore(ctx.database).events(join.id)
    assert [step.state for step in steps] == ["added", "checked", "trial"]
    assert "calls tools" in steps[1].reason
    spent = JoinCalls(ctx.database).spent(join.id)
    assert spent.calls == 6 == len(endpoint.seen)
    assert 0 < spent.usd < 0.001


def test_what_it_refuses_or_only_ignores_is_found(ctx: JobContext) -> None:
    with Upstream(
        refuses=("max_tokens", "temperature"), tools=False, schema=False, streams=False, sees=False
    ) as endpoint:
        card = ModelCard(NAME, price_input=1.0, price_output=2.0, capabilities=frozenset({"tools", "vision"}))
        found = joined(ctx, endpoint, card=card).found["check"]
    assert found == {
        "failed": None, "limit": "max_completion_tokens", "streams": False, "temperature": False, "tools": False,
        "json": False, "images": False, "context": None,
    }  # fmt: skip
    assert ctx.pool.get(NAME).card.capabilities == set()


def test_an_endpoint_that_ignores_images_does_not_see_them(ctx: JobContext) -> None:
    with Upstream(sees=None) as endpoint:
        join = joined(ctx, endpoint)
    assert join.found["check"]["images"] is False and ctx.pool.get(NAME).card.capabilities == {"tools", "json"}


@pytest.mark.parametrize(
    ("given", "listed", "context", "says"),
    [
        (None, {"context_length": 4096}, 4096, "lists a context of 4,096 tokens"),
        (128_000, {"max_model_len": 4096}, 4096, "its card claimed 128,000"),
        (2048, {"context_window": 4096}, 2048, "lists a context of 4,096 tokens"),
        (None, {"context_length": "long"}, 8192, "it answers"),
    ],
    ids=["unknown", "claims more", "claims less", "says nothing"],
)
def test_the_context_is_what_the_endpoint_lists_where_the_card_does_not_say_less(
    ctx: JobContext, given: int | None, listed: dict[str, Any], context: int, says: str
) -> None:
    card = ModelCard(NAME, price_input=1.0, price_output=2.0, context=given or 8192)
    with Upstream(listed={"acme/other": {"context_length": 9}, NAME: listed}) as endpoint:
        join = joined(ctx, endpoint, card=card, unknown=frozenset({"context"} if given is None else ()))
    assert ctx.pool.get(NAME).card.context == context
    [checked] = [step for step in JoinStore(ctx.database).events(join.id) if step.state == "checked"]
    assert says in checked.reason and ("claimed" in checked.reason) == (given == 128_000)


@pytest.mark.parametrize(("status", "says"), [(401, "401"), (404, "404"), (500, "500")])
def test_a_model_that_cannot_be_called_is_not_routed_to_until_it_is_changed(
    ctx: JobContext, status: int, says: str
) -> None:
    with Upstream(fault=lambda body: f"status {status}") as endpoint:
        join = joined(ctx, endpoint)
        assert join.state == "failed" and says in join.reason
        assert says in str(ctx.unavailable_reason(ctx.pool.get(NAME)))
        assert len(endpoint.seen) == 1, "nothing else is tried"
        endpoint.fault = lambda body: None
        assert run(ctx).state == "failed", "nothing has changed"
        ctx.pool.update(NAME, output_tokens=9)
        assert run(ctx).state == "trial"
    assert ctx.unavailable_reason(ctx.pool.get(NAME)) is None


def test_nobody_is_there(ctx: JobContext) -> None:
    with Upstream() as endpoint:
        pass
    join = joined(ctx, endpoint)
    assert join.state == "failed" and "cannot be reached" in join.reason


def test_an_unknown_price_is_not_zero(ctx: JobContext) -> None:
    with Upstream() as endpoint:
        join = joined(ctx, endpoint, unknown=frozenset({"price_input", "price_output"}))
        assert join.state == "failed" and "price_input and price_output is not known" in join.reason
        assert not endpoint.seen
        ctx.pool.update(NAME, price_input=0.0, price_output=0.0)
        assert run(ctx).state == "trial"


def test_a_busy_endpoint_is_waited_for(ctx: JobContext) -> None:
    waits: list[float] = []
    with Upstream(faults=["status 429 7"] * 2) as endpoint:
        ctx.pool.add(PoolModel(ModelCard(NAME), Provider("openai", endpoint.base_url)))
        assert run(ctx, waits).state == "trial"
    asked = [wait for wait in waits if wait >= 7.0]
    assert len(asked) == 2 and max(asked) <= LONGEST_WAIT_S


def test_a_budget_that_allows_no_call_allows_none(settings: JobSettings) -> None:
    with Upstream() as endpoint, JobContext(settings.model_copy(update={"join_budget_usd": 1e-6})) as ctx:
        assert ctx.pool.list()
        card = ModelCard(NAME, price_input=1.0, price_output=2.0)
        ctx.pool.add(PoolModel(card, Provider("openai", endpoint.base_url)))
        join = run(ctx)
        assert join.state == "failed" and "budget" in join.reason and not endpoint.seen


def test_a_check_that_was_killed_goes_on_and_makes_no_call_twice(ctx: JobContext) -> None:
    class Killed(BaseException):
        pass

    with Upstream() as endpoint:
        ctx.pool.add(
            PoolModel(ModelCard(NAME, price_input=1.0, price_output=2.0), Provider("openai", endpoint.base_url))
        )
        client = JobClient(ctx.env, calls_per_minute=6e6)
        calls = 0
        post = client._http.post

        def dies(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise Killed
            return post(*args, **more)

        client._http.post = dies  # type: ignore[method-assign]
        with pytest.raises(Killed):
            onboard(ctx, lambda stage, share: None, client)
        client.close()
        seen = [str(body) for body in endpoint.seen]
        join = run(ctx)
        assert join.state == "trial"
        assert join.found["check"]["tools"] is None, "that call may have been made, and is not made again"
        assert join.found["check"]["json"] is True
        assert len({str(body) for body in endpoint.seen}) == len(endpoint.seen) == len(seen) + 2
    states = [call.state for call in JoinCalls(ctx.database).list(join.id)]
    assert states == ["done", "done", "done", "lost", "done", "done"]
