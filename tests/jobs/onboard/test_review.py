"""A model on trial is adopted where it is better on some task, declined where it is on none, and reported on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from agent.choice.adoption import AdoptionConfig, adoption
from agent.router import Router
from agent.types import ModelCard, RouteRequest
from jobs.context import JobContext
from jobs.onboard.review import caught_up, central_prompts, review
from store.decisions import DecisionLog, DecisionRecord, Outcome
from store.feedback import FeedbackEvent
from store.join_calls import JoinCalls
from store.join_page import to_html
from store.join_report import read_report
from store.joins import Join, JoinStore
from store.pool.file import PoolModel, Provider
from store.prompts import turns_of
from tests.jobs.made import records
from tests.jobs.onboard.test_probe import NEW, PROBES, World, ctx, endpoint, run, world
from tests.upstream import Upstream

__all__ = ["ctx", "endpoint", "world"]
pytestmark = pytest.mark.usefixtures("few_seed_prompts")


def state(ctx: JobContext) -> str:
    found = JoinStore(ctx.database).get(NEW)
    assert found is not None
    return found.state


def test_one_that_is_bad_is_declined_and_answers_only_who_names_it(ctx: JobContext, world: World) -> None:
    ctx.settings = ctx.settings.model_copy(update={"join_probes": 24})
    world.worth = {"right": 0.0, "wrong": 0.7}
    assert run(ctx).state == "declined"
    join = JoinStore(ctx.database).get(NEW)
    assert join is not None and "on none of" in join.reason and len(join.found["review"]["standings"]) >= 3
    [card] = [card for card in ctx.cards() if card.name == NEW]
    assert "was declined" in str(card.resting)
    champion = ctx.champion()
    assert champion is not None
    router = caught_up(ctx, champion)
    router.set_models(ctx.cards())
    prompt = next(iter(central_prompts(ctx, champion).values()))
    by_model = {
        c.model: c.excluded for c in router.route(prompt, RouteRequest(()), np.random.default_rng(0)).candidates
    }
    assert "was declined" in str(by_model.pop(NEW)) and set(by_model.values()) == {None}
    named = router.route(prompt, RouteRequest((), candidates=(NEW,), explore=False), np.random.default_rng(0))
    assert named.model == NEW
    assert review(ctx) == {}, "nothing has changed"


def test_one_that_is_as_good_and_free_is_adopted(
    ctx: JobContext, world: World, endpoint: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = adopted(ctx, world, endpoint, monkeypatch)
    assert "ahead of every other model on" in join.reason
    assert ctx.pool.get(NEW).routed_card.resting is None


def test_few_scores_decide_nothing_and_the_report_says_what_is_known(ctx: JobContext) -> None:
    join = run(ctx)
    assert join.state == "trial"
    report = read_report(ctx.database, join)
    assert [step.state for step in report.steps][-1] == "trial"
    assert sum(c.prompts for c in report.comparisons) == PROBES
    assert all(c.difference == pytest.approx(0.5) for c in report.comparisons)
    assert len(report.won) == 3 and report.lost == []
    assert (report.won[0].answer, report.won[0].rival_answer) == ("right", "wrong") and report.won[0].prompt
    assert {s.role: s.calls for s in report.spending} == {
        "check": 7,
        "probe": PROBES,
        "rival": PROBES,
        "judge": 2 * PROBES,
    }
    assert report.usd == pytest.approx(sum(s.usd for s in report.spending)) and report.usd > 0
    page = to_html(report)
    assert page.startswith("<!doctype html>") and "Against whom" in page and "http" not in page


def test_what_a_model_says_is_shown_as_text(ctx: JobContext, world: World) -> None:
    world.ours = "<script>alert(1)</script>"
    world.worth = {world.ours: 0.9, "wrong": 0.1}
    page = to_html(read_report(ctx.database, run(ctx)))
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page


def rate(ctx: JobContext, model: str, score: float, count: int, *, named: bool, usd: float = 0.001) -> None:
    """``count`` answers of ``model`` to new prompts, each with this score; to requests that name it, or name none."""
    champion = ctx.champion()
    assert champion is not None
    router, rng = Router(champion, ctx.cards()), np.random.default_rng(0)
    decisions, events = DecisionLog(ctx.database, ctx.writer), []
    kind = f"{model}{score}{named}"
    for i, row in enumerate(records(count, seed=5)):
        [encoded] = ctx.encoder.encode([turns_of(row["prompt"])])
        decision = router.route(encoded, RouteRequest((), candidates=(model,) if named else None, explore=False), rng)
        if not named:
            chosen = tuple(replace(c, propensity=float(c.model == model)) for c in decision.candidates)
            decision = replace(decision, model=model, candidates=chosen)
        record = DecisionRecord(
            id=f"{kind}-{i}", created_at=ctx.clock(), decision=decision, encoder=champion.encoder, prompt=row["prompt"],
            requested_model=model if named else "auto",
        )  # fmt: skip
        decisions.append(record)
        decisions.complete(record.id, Outcome(status="ok", cost_usd=usd, input_tokens=9, output_tokens=300))
        events.append(FeedbackEvent(record.id, score, "user", f"user-{i % 20}"))
    ctx.feedback.append(events).result()


def adopted(ctx: JobContext, world: World, endpoint: Upstream, monkeypatch: pytest.MonkeyPatch) -> Join:
    """As good as the best, and free; a little proof is enough."""
    ctx.settings = ctx.settings.model_copy(update={"join_probes": 24})
    ctx.pool.remove(NEW)
    ctx.pool.add(PoolModel(ModelCard(NEW), Provider("openai", endpoint.base_url)))
    world.worth = {"right": 1.0, "wrong": 0.9}
    with monkeypatch.context() as patch:
        patch.setattr("jobs.onboard.review.adoption", partial(adoption, config=AdoptionConfig(sure=0.55)))
        join = run(ctx)
    assert join.state == "adopted"
    return join


def test_one_that_was_adopted_and_loses_everywhere_is_declined_later_and_tried_again_when_it_is_better(
    ctx: JobContext, world: World, endpoint: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = adopted(ctx, world, endpoint, monkeypatch)
    assert review(ctx) == {}, "nothing has changed"
    rate(ctx, NEW, 0.0, 90, named=False)
    assert review(ctx)[NEW]["state"] == "declined"
    assert review(ctx) == {}
    rate(ctx, NEW, 1.0, 240, named=True)
    assert review(ctx)[NEW]["state"] in ("trial", "adopted")
    steps = [event.state for event in JoinStore(ctx.database).events(join.id)]
    assert steps[-3:-1] == ["adopted", "declined"]


def test_one_whose_price_no_quality_is_worth_is_not_probed_until_the_price_falls(
    ctx: JobContext, endpoint: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.choice.utility.EVEN_PREMIUM", 2.0)
    ctx.pool.update(NEW, price_input=1000.0, price_output=2000.0)
    join = run(ctx)
    assert join.state == "declined" and "no probes were made: its price" in join.reason
    spent = JoinCalls(ctx.database).spent(join.id)
    assert spent.calls == len(endpoint.seen) == 5, "an image could cost more than the budget"
    assert review(ctx) == {}
    ctx.pool.update(NEW, price_input=1.0, price_output=2.0)
    assert review(ctx)[NEW]["state"] == "checked"
    join = run(ctx)
    assert join.state in ("trial", "adopted") and join.found["judged"]["scored"] == PROBES


def test_the_report_says_what_was_predicted_and_what_came_of_it(
    ctx: JobContext, world: World, endpoint: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = read_report(ctx.database, adopted(ctx, world, endpoint, monkeypatch))
    assert report.predicted is not None and report.predicted.net > 0.0 and 0.0 < report.predicted.share <= 1.0
    assert report.realised is None and "no request was routed since" in report.unsure[-1]
    rate(ctx, NEW, 0.9, 90, named=False, usd=0.004)
    rate(ctx, NEW, 0.1, 30, named=True)
    review(ctx)
    join = JoinStore(ctx.database).get(NEW)
    assert join is not None
    report = read_report(ctx.database, join)
    effect = report.realised
    assert effect is not None and (effect.requests, effect.share, effect.scored) == (90, 1.0, 90), "none that named it"
    assert effect.quality is not None and effect.quality_interval is not None and effect.usd is not None
    assert effect.quality_interval[0] <= effect.quality <= effect.quality_interval[1]
    assert effect.usd == pytest.approx(0.004 - 0.0006, abs=0.0005), "what it cost, less what another would have"
    assert report.predicted == read_report(ctx.database, join).predicted
    page = to_html(report)
    assert "Effect" in page and "by 90 requests, of which 90 were scored" in page
