"""A model on trial is adopted where it is better on some task, declined where it is on none, and reported on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from agent.choice.adoption import AdoptionConfig, adoption
from agent.types import ModelCard, RouteRequest
from jobs.context import JobContext
from jobs.onboard.review import caught_up, central_prompts, review
from store.join_report import read_report, to_html
from store.joins import JoinStore
from store.pool.file import PoolModel, Provider
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
    monkeypatch.setattr("jobs.onboard.review.adoption", partial(adoption, config=AdoptionConfig(sure=0.55)))
    ctx.settings = ctx.settings.model_copy(update={"join_probes": 24})
    ctx.pool.remove(NEW)
    ctx.pool.add(PoolModel(ModelCard(NEW), Provider("openai", endpoint.base_url)))
    world.worth = {"right": 1.0, "wrong": 0.9}
    join = run(ctx)
    assert join.state == "adopted" and "ahead of every other model on 2 tasks" in join.reason
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
        "check": 6,
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
