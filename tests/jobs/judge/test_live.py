"""The job `judge` against a real endpoint: what is judged, paid, learned and deleted; by which budget; and after a kill."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.errors import InvalidInput
from agent.evaluation.reference import Reference
from jobs.calls.client import JobClient
from jobs.cli.feedback import ledger
from jobs.context import JobContext
from jobs.judge.live import allowance, judge_answers
from jobs.judge.measure import Measured, measure
from store.decisions import DecisionLog, Outcome
from store.evaluations import EvaluationRow, EvaluationStore
from store.feedback import FeedbackEvent
from store.join_calls import JoinBudget, JoinCalls
from store.judge_report import read_judges
from store.kept_answers import KeptAnswers
from store.prompts import turns_of
from store.views import to_json
from tests.jobs.cli.commands import data, thalweg
from tests.jobs.made import WordEncoder, record_decision, records
from tests.jobs.onboard.test_probe import JUDGE, World, ctx, endpoint, quoted
from tests.upstream import Upstream

__all__ = ["ctx", "endpoint"]
pytestmark = pytest.mark.usefixtures("few_seed_prompts")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Live(World):
    """The judge also grades single answers."""

    def answer(self, body: dict[str, Any]) -> str:
        if "You score one answer" in str(body["messages"][0]["content"]):
            mark = quoted_mark(body)
            return (
                f'{{"mark": "{mark}", "score": {self.worth.get(quoted(body, "answer"), 0.0)}, "reason": "So it is."}}'
            )
        return super().answer(body)


def quoted_mark(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"].split('"')[1])


@pytest.fixture
def world() -> Live:
    return Live()


@pytest.fixture
def judging(ctx: JobContext) -> JobContext:
    """The same with a dollar a day, at noon."""
    ctx.clock = lambda: NOON
    ctx.settings = ctx.settings.model_copy(update={"judge_daily_usd": 1.0})
    return ctx


def keep(ctx: JobContext, count: int, *, shadow: bool = False, answer: str = "right", start: int = 0) -> list[str]:
    """Keep answers to prompts of the evaluations, each of the model ``chef``."""
    ids = []
    for i, row in enumerate(records(240)[start : start + count], start):
        ids.append(f"live{i}")
        record_decision(ctx.database, ids[-1], {"chef": 0.7, "cheap": 0.3}, row["prompt"])
        DecisionLog(ctx.database, ctx.writer).complete(ids[-1], Outcome(status="ok")).result()
        KeptAnswers(ctx.database, ctx.writer, ctx.clock).keep(ids[-1], answer, shadow=shadow).result()
    return ids


def run(ctx: JobContext, client: JobClient | None = None) -> dict[str, Any]:
    own = client or JobClient(ctx.env, timeout_s=5.0, calls_per_minute=6e6, sleep=lambda seconds: None)
    try:
        return judge_answers(ctx, lambda stage, share: None, own)
    finally:
        own.close()


def left(ctx: JobContext) -> list[str]:
    return [kept.decision_id for kept in KeptAnswers(ctx.database).waiting()]


def test_by_default_nothing_is_sent_to_anybody(ctx: JobContext, endpoint: Upstream) -> None:
    keep(ctx, 2)
    assert "THALWEG_JUDGE_DAILY_USD" in run(ctx)["reason"] and endpoint.seen == []
    ctx.settings = ctx.settings.model_copy(update={"judge_daily_usd": 1.0, "store_prompts": "embedding"})
    assert run(ctx)["scored"] == 0 and endpoint.seen == []


def test_kept_answers_are_judged_once_and_deleted(judging: JobContext, endpoint: Upstream) -> None:
    ids = keep(judging, 3)
    done = run(judging)
    assert (done["waiting"], done["scored"], done["pairs"], done["without_score"]) == (3, 3, 0, 0)
    rows = judging.feedback.tail(0)
    assert {(r.decision_id, r.model, r.source, r.rater, r.score) for r in rows} == {
        (id, "chef", "judge", JUDGE, 0.8) for id in ids
    }  # fmt: skip
    assert left(judging) == [] and len(endpoint.seen) == 3
    assert done["usd"] == pytest.approx(JoinCalls(judging.database).spent(None).usd) and done["usd"] > 0
    assert run(judging)["waiting"] == 0 and len(endpoint.seen) == 3


def test_shadow_traffic_asks_a_second_model_and_compares_both_ways(judging: JobContext, endpoint: Upstream) -> None:
    [id] = keep(judging, 1, shadow=True)
    done = run(judging)
    assert (done["scored"], done["pairs"]) == (1, 1)
    second = DecisionLog(judging.database, judging.writer).get(f"shadow-{id}")
    assert second is not None and second.kind == "shadow" and second.decision.model == "cheap"
    assert second.decision.chosen.propensity == 1.0 and second.prompt == records(240)[0]["prompt"]
    scores = {row.model: row.score for row in judging.feedback.tail(0)}
    assert scores == {"chef": pytest.approx(0.85), "cheap": pytest.approx(0.35)}, (
        "the liking for the first place is out"
    )
    asked = [body["model"] for body in endpoint.seen]
    assert asked == ["cheap", JUDGE, JUDGE] and left(judging) == []
    [call] = JoinCalls(judging.database).list(None, "shadow")
    assert call.answer is None and call.cost_usd is not None, "its answer is deleted, its cost is not"


def test_an_answer_of_known_worth_is_scored_for_nothing_and_calibrates_the_judge(
    judging: JobContext, endpoint: Upstream, word_encoder: WordEncoder
) -> None:
    ids = keep(judging, 12)
    rows = [EvaluationRow(r["prompt"], "", None, {}, {}, Reference("exact", "wrong")) for r in records(240)[:12]]
    encode = lambda texts: word_encoder.encode([turns_of(t) for t in texts])  # noqa: E731
    EvaluationStore(judging.database).add("made", "golden", rows, encode, word_encoder.fingerprint)
    done = run(judging)
    assert (done["by_reference"], done["scored"]) == (12, 10), "a fifth of a run at most"
    found = judging.feedback.tail(0)
    assert {(r.decision_id, r.score) for r in found if r.source == "evaluation"} == {(id, 0.0) for id in ids}
    assert sum(r.source == "judge" for r in found) == 10 == len(endpoint.seen) and left(judging) == []


def test_the_days_budget_is_never_passed_and_comes_evenly(judging: JobContext, endpoint: Upstream) -> None:
    assert allowance(2.4, NOON) == JoinBudget(1.2, 1_000_000, NOON.replace(hour=0))
    assert allowance(2.4, NOON.replace(hour=0)).usd == pytest.approx(0.24)
    ids = keep(judging, 6)
    reserved = JoinCalls(judging.database)
    endpoint.usage = lambda body, text: (1500, 500)
    judging.settings = judging.settings.model_copy(update={"judge_daily_usd": 0.012})
    done = run(judging)
    spent = reserved.spent(None)
    assert 0 < done["scored"] < 6 and "spent" in done["reason"] and spent.usd <= 0.006
    assert len(left(judging)) == 6 - done["scored"] and set(left(judging)) < set(ids)
    assert len(endpoint.seen) == spent.calls
    again = run(judging)
    assert again["scored"] <= done["scored"]
    judging.clock = lambda: NOON + timedelta(hours=13)
    assert reserved.spent(None, since=allowance(1.0, judging.clock()).since).calls == 0, "another day"


def test_what_users_complained_of_comes_first(judging: JobContext, endpoint: Upstream) -> None:
    endpoint.usage = lambda body, text: (1500, 500)
    ids = keep(judging, 6)
    judging.feedback.append([FeedbackEvent(ids[4], 0.0, "user", "ann", thumb="down")]).result()
    judging.settings = judging.settings.model_copy(update={"judge_daily_usd": 0.0095})
    run(judging)
    judged = [row.decision_id for row in judging.feedback.tail(0) if row.source == "judge"]
    assert judged and judged[0] == ids[4] and len(judged) < 6


def test_answers_that_waited_too_long_are_deleted(judging: JobContext, endpoint: Upstream) -> None:
    keep(judging, 2)
    judging.clock = lambda: NOON + timedelta(hours=25)
    assert run(judging)["expired"] == 2 and left(judging) == [] and endpoint.seen == []


def test_a_judge_that_rambles_gives_no_score_and_is_not_asked_again(
    judging: JobContext, endpoint: Upstream, world: Live
) -> None:
    world.worth = {}
    endpoint.answer = lambda body: "I would say 0.9."
    keep(judging, 2)
    done = run(judging)
    assert (done["scored"], done["without_score"], done["unreadable"]) == (0, 2, 2)
    assert judging.feedback.tail(0) == [] and left(judging) == [] and len(endpoint.seen) == 2


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_killed_anywhere_it_goes_on_and_pays_nothing_twice(judging: JobContext, endpoint: Upstream, at: int) -> None:
    class Killed(BaseException):
        pass

    keep(judging, 1, shadow=True)
    keep(judging, 2, start=1)
    client = JobClient(judging.env, timeout_s=5.0, calls_per_minute=6e6)
    post, made = client._http.post, 0

    def dies(*args: Any, **more: Any) -> Any:
        nonlocal made
        made += 1
        response = post(*args, **more)
        if made == at + 1:
            raise Killed
        return response

    client._http.post = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        run(judging, client)
    run(judging)
    calls = JoinCalls(judging.database).list(None)
    assert [call.state for call in calls].count("lost") == 1 and left(judging) == []
    assert len({str(body) for body in endpoint.seen}) == len(endpoint.seen) == len(calls), "each call was made once"
    rows = judging.feedback.tail(0)
    assert len({(row.decision_id, row.rater) for row in rows}) == len(rows) >= 2


def test_the_report_tells_what_a_judge_likes_and_whether_it_agrees_with_the_truth(
    judging: JobContext, endpoint: Upstream, word_encoder: WordEncoder, world: Live
) -> None:
    """Right answers are worth 1, wrong ones 0; the judge gives .8 and .3, and .1 more to what stands first."""
    texts = [r["prompt"] for r in records(240)]
    rows = [EvaluationRow(text, "", None, {}, {}, Reference("exact", "right")) for text in texts[:16]]
    encode = lambda texts: word_encoder.encode([turns_of(t) for t in texts])  # noqa: E731
    EvaluationStore(judging.database).add("made", "golden", rows, encode, word_encoder.fingerprint)
    keep(judging, 8, shadow=True)
    keep(judging, 8, answer="wrong", start=8)
    run(judging)
    assert data("judge", "report") == json.loads(to_json(read_judges(judging.database, ledger().raters())))
    [judge] = read_judges(judging.database, ())
    assert (judge.judge, judge.scores, judge.known, judge.calls, judge.unreadable) == (JUDGE, 24, 24, 24, 0)
    assert judge.correlation and judge.correlation.value > 0.99
    assert (
        judge.pairwise
        and (judge.pairwise.value, judge.pairwise.n) == (1.0, 8)
        and 0.6 < (judge.pairwise.low or 0) < 0.7
    )
    assert judge.position and judge.position.value == pytest.approx(0.05) and judge.position.n == 8
    assert judge.same_order and judge.same_order.value == 1.0
    assert any("favours the first place by 0.05" in line for line in judge.findings)
    assert JUDGE in thalweg("judge", "report").output
    [learned] = [report for report in ledger().raters() if report.rater == JUDGE]
    assert {found.model for found in learned.models} == {"chef", "cheap"}


def test_judges_are_measured_on_prompts_with_a_reference_within_a_budget_and_once(
    judging: JobContext, endpoint: Upstream, word_encoder: WordEncoder, world: Live
) -> None:
    def go(count: int, usd: float = 1.0) -> Measured:
        client = JobClient(judging.env, timeout_s=5.0, calls_per_minute=6e6)
        try:
            return measure(judging, count, usd, lambda stage, share: None, client)
        finally:
            client.close()

    with pytest.raises(InvalidInput, match="no prompt has a reference"):
        go(3)
    rows = [EvaluationRow(r["prompt"], "", None, {}, {}, Reference("exact", "wrong")) for r in records(240)[:9]]
    encode = lambda texts: word_encoder.encode([turns_of(t) for t in texts])  # noqa: E731
    EvaluationStore(judging.database).add("made", "golden", rows, encode, word_encoder.fingerprint)
    assert go(9, usd=1e-9) == Measured(reason="the budget ended") and endpoint.seen == []
    done = go(6)
    assert (done.prompts, done.pairs, done.unreadable) == (6, 6, 0) and done.usd > 0
    assert len(endpoint.seen) == 6 * 4 and JUDGE not in {body["model"] for body in endpoint.seen[:2]}
    [judge] = read_judges(judging.database, ())
    assert (judge.known, judge.scores) == (12, 12) and judge.bias and judge.bias.value == pytest.approx(0.35 - 1.0)
    assert go(6).usd == 0.0 and len(endpoint.seen) == 6 * 4, "what was asked is not asked again"
    judging.settings = judging.settings.model_copy(update={"judge": "off"})
    with pytest.raises(InvalidInput, match="no judge can be called"):
        go(3)
