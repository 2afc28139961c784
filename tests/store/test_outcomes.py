"""The outcome log: one order for all replicas, each call once, bounded; and feedback on calls that failed."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from sqlalchemy import func, insert, select

from agent.observations import CallOutcome, Observation, SetAside
from agent.online.outcomes import WINDOW, OutcomeStatistics
from store.database import Database
from store.decisions import DecisionLog, Outcome
from store.examples import feedback_examples
from store.feedback import FeedbackEvent, FeedbackLog
from store.outcomes import OutcomeLog
from store.retention import Retention, RetentionConfig
from store.tables import OutcomeLogTable
from store.writer import GroupCommitter
from tests.store.build import ENCODER, a_record
from tests.store.child import Child, complete, start_together

OK = Outcome(status="ok", latency_ms=12.5, input_tokens=3, output_tokens=4, cost_usd=0.25)


def test_outcomes_are_read_in_order_with_what_was_decided(database: Database, writer: GroupCommitter) -> None:
    decisions, log = DecisionLog(database, writer), OutcomeLog(database)
    for i, (outcome, cost) in enumerate([(OK, 0.2), (Outcome(status="timeout"), None), (OK, 0.0)]):
        decisions.append(a_record(f"d{i}"))
        decisions.complete(f"d{i}", outcome, cost).result(10)
    first, second, third = log.tail(0)
    assert first == CallOutcome(first.seq, "a", 7, "ok", 4, 12.5, 0.25, 0.2, input_tokens=3, encoder_tokens=17)
    assert (second.status, second.output_tokens, third.snapshot_cost) == ("timeout", None, None)
    assert first.seq < second.seq < third.seq
    assert log.tail(first.seq, 1) == [second] and log.latest() == [first, second, third]


def test_a_call_is_learned_once_though_its_outcome_is_replaced(database: Database, writer: GroupCommitter) -> None:
    decisions, log = DecisionLog(database, writer), OutcomeLog(database)
    decisions.append(a_record("d"))
    decisions.complete("d", Outcome(status="error")).result(10)
    decisions.complete("d", OK).result(10)
    assert [row.status for row in log.tail(0)] == ["error"] and decisions.outcome("d") == OK


def test_replicas_agree_whoever_wrote_and_whenever_they_started(postgres_url: str) -> None:
    """Four processes write at once; one replica follows, one starts afterwards."""
    database = Database.open(postgres_url)
    writer = GroupCommitter(database)
    for i in range(8):
        DecisionLog(database, writer).append(a_record(f"d{i}")).result(10)
    log, followed, started = OutcomeLog(database), OutcomeStatistics(), OutcomeStatistics()
    children = [Child(complete, postgres_url, seed, 60) for seed in range(4)]
    start_together(children)
    while any(child.process.is_alive() for child in children):
        followed.learn_many(log.tail(followed.position, 17))
    for child in children:
        child.join()
    while page := log.tail(followed.position, 17):
        followed.learn_many(page)
    started.learn_many(log.latest())
    assert followed.digest() == started.digest()
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(OutcomeLogTable)) == 240
    writer.close()
    database.close()


def test_retention_keeps_what_the_streams_hold(database: Database) -> None:
    rng, log = np.random.default_rng(0), OutcomeLog(database)
    rows = [
        {
            "model": "ab"[rng.integers(2)], "task": int(rng.integers(3)), "status": rng.choice(["ok"] * 5 + ["error"]),
            "output_tokens": int(rng.integers(900)) if rng.random() < 0.9 else None, "latency_ms": float(rng.random()),
            "cost_usd": 0.1, "snapshot_cost": 0.2 if rng.random() < 0.6 else None,
        }
        for _ in range(8 * WINDOW)
    ]  # fmt: skip
    with database.session(write=True) as session:
        session.execute(insert(OutcomeLogTable), rows)
        session.commit()
    before, after = OutcomeStatistics(), OutcomeStatistics()
    before.learn_many(log.tail(0, 10_000))
    keep = RetentionConfig(0, 0, 0, 0)
    report = Retention(database, keep, datetime.now(UTC), pause=lambda seconds: None).run()
    assert 0 < report.outcome_log == 8 * WINDOW - len(log.tail(0, 10_000))
    after.learn_many(log.latest())
    assert after.digest() == before.digest() and log.tail(0, 10_000) == log.latest()


def test_a_rating_of_a_call_that_had_failed_is_set_aside(database: Database, writer: GroupCommitter) -> None:
    """Only where that was known when it was written, so that every replica does the same."""
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    for id, status in (("fine", "ok"), ("late", None), ("slow", "timeout"), ("gone", "cancelled"), ("broken", "error")):
        decisions.append(a_record(id, prompt=f"prompt of {id}"))
        if status is not None:
            decisions.complete(id, Outcome(status=status)).result(10)  # type: ignore[arg-type]
    feedback.append([FeedbackEvent(id, 0.0, "user") for id in ("fine", "late", "slow", "gone", "broken")]).result(10)
    decisions.complete("late", Outcome(status="timeout")).result(10)
    rows = feedback.page(0)
    assert [row.decision_id for row in rows if isinstance(row, Observation)] == ["fine", "late"]
    reasons = [row.reason for row in rows if isinstance(row, SetAside)]
    assert [r.split("(")[1].split(")")[0] for r in reasons] == ["timeout", "cancelled", "error"]
    assert len(feedback_examples(database, ENCODER, feedback.head()).ids) == 2
