"""The log: idempotent, revisable, and in an order in which a tail never skips."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from agent.errors import InvalidInput
from agent.feedback.ledger import Ledger
from agent.observations import Observation
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackEvent, FeedbackLog, Receipt
from store.tables import FeedbackTable
from store.writer import GroupCommitter
from tests.store.build import a_record
from tests.store.child import Child, append_random, feed, start_together


def tailed(log: FeedbackLog, ledger: Ledger, seen: list[int], done: Callable[[], bool]) -> None:
    """Follow the log as a replica does, until it is done and read to its end."""
    while True:
        ended = done()
        rows = log.tail(seen[-1] if seen else 0, 37)
        for row in rows:
            ledger.learn_one(row)
            seen.append(row.seq)
        if ended and not rows:
            return


def test_two_replicas_learn_the_same_from_eight_concurrent_writers(postgres_url: str) -> None:
    database = Database.open(postgres_url)
    writer = GroupCommitter(database)
    for i in range(30):
        DecisionLog(database, writer).append(a_record(f"d{i}", prompt=f"prompt {i}")).result(10)
    log = FeedbackLog(database, writer)
    ranked = {f"d{i}": ["b", "c"] for i in range(30)}
    children = [Child(append_random, postgres_url, seed, 60, ranked) for seed in range(8)]
    ledgers = (Ledger(), Ledger())
    seen: tuple[list[int], list[int]] = ([], [])
    written = threading.Event()
    replicas = [
        threading.Thread(target=tailed, args=(log, *each, written.is_set)) for each in zip(ledgers, seen, strict=True)
    ]
    start_together(children)
    for replica in replicas:
        replica.start()
    for child in children:
        child.join()
    written.set()
    for replica in replicas:
        replica.join()
    with database.session() as session:
        stored = list(session.scalars(select(FeedbackTable.seq).order_by(FeedbackTable.seq)))
    assert len(stored) == 8 * 60 and seen[0] == seen[1] == stored
    again = Ledger()
    tailed(log, again, [], lambda: True)
    assert ledgers[0].state() == ledgers[1].state() == again.state()
    writer.close()
    database.close()


@pytest.fixture
def log(database: Database, writer: GroupCommitter) -> FeedbackLog:
    """A log beside the decisions d0, d1 and d2."""
    decisions = DecisionLog(database, writer)
    for i in range(3):
        decisions.append(a_record(f"d{i}", prompt=f"prompt {i}", model="ab"[i % 2])).result(10)
    return FeedbackLog(database, writer)


def test_an_observation_holds_what_its_decision_knew(log: FeedbackLog, database: Database) -> None:
    log.append([FeedbackEvent("d1", 0.25, "judge", "gpt")]).result(10)
    [observation] = log.tail(0)
    record = a_record("d1", prompt="prompt 1", model="b")
    assert (observation.decision_id, observation.model, observation.score) == ("d1", "b", 0.25)
    assert (observation.source, observation.rater, observation.revises) == ("judge", "gpt", None)
    assert observation.propensity == 0.9
    assert np.array_equal(observation.encoded.embedding, record.decision.encoded.embedding)
    assert np.array_equal(observation.encoded.features, record.decision.encoded.features)
    assert (observation.encoded.tokens, observation.encoded.coverage) == (17, 0.75)
    assert (observation.expected, observation.task) == (0.6, 7)
    assert observation.other is None and math.isnan(observation.expected_other)
    assert observation.encoder == record.encoder
    assert observation.actions == tuple(c.action for c in record.decision.candidates if c.excluded is None)
    assert [(c.model, c.propensity, c.cost) for c in observation.actions] == [("a", 0.1, 0.001), ("b", 0.9, 0.0001)]
    assert observation.actions[0].cost_penalty == pytest.approx(0.01)


def test_an_observation_holds_what_its_decisions_snapshot_estimated(log: FeedbackLog) -> None:
    """Without what was learned since; of a model whose parts were not logged it is not a number."""
    log.append([FeedbackEvent("d0", 1.0, "judge", other="b")]).result(10)
    [observation] = log.tail(0)
    assert observation.estimate is not None
    assert (observation.estimate.snapshot, observation.estimate.task) == (3, 7)
    assert observation.estimate.neighbourhood == 41
    assert observation.estimate.tasks == {7: 0.93, 4: 0.07}
    assert observation.estimate.quality == {"a": 0.81, "b": pytest.approx(math.nan, nan_ok=True)}


def test_a_number_that_a_decision_did_not_have_is_nan(database: Database, writer: GroupCommitter) -> None:
    record = a_record("d")
    unknown = replace(record.decision.chosen, quality=math.nan, cost_penalty=math.nan)
    decision = replace(record.decision, candidates=(unknown, *record.decision.candidates[1:]))
    DecisionLog(database, writer).append(replace(record, decision=decision)).result(10)
    log = FeedbackLog(database, writer)
    log.append([FeedbackEvent("d", 1.0, "user")]).result(10)
    [observation] = log.tail(0)
    assert math.isnan(observation.expected)
    assert math.isnan(observation.actions[0].quality) and math.isnan(observation.actions[0].cost_penalty)


def test_a_comparison_names_the_other_model_and_what_was_expected_of_it(log: FeedbackLog) -> None:
    log.append([FeedbackEvent("d0", 0.5, "user", "ann", other="b", key="web")]).result(10)
    [observation] = log.tail(0)
    assert (observation.model, observation.expected) == ("a", 0.8)
    assert (observation.other, observation.expected_other, observation.score) == ("b", 0.6, 0.5)
    assert observation.key == log.list()[0].event.key == "web"


def test_a_score_and_comparisons_with_different_models_are_kept_side_by_side(log: FeedbackLog) -> None:
    ratings = [(None, 1.0), ("b", 1.0), ("c", 0.5), ("b", 0.0), (None, 0.0)]
    events = [FeedbackEvent("d0", score, "user", "ann", other=other) for other, score in ratings]
    assert [r.status for r in log.append(events).result(10)] == ["recorded"] * 3 + ["revised"] * 2
    assert [o.revises for o in log.tail(0)] == [None, None, None, 1.0, 1.0]


@pytest.mark.parametrize("other", ["a", "unknown", "b\ud800"])
def test_a_comparison_with_what_the_decision_did_not_rank_is_refused(log: FeedbackLog, other: str) -> None:
    events = [FeedbackEvent("d0", 1.0, "user", other=other), FeedbackEvent("gone", 1.0, "user", other="b")]
    refused, unknown = log.append(events).result(10)
    assert refused.status == unknown.status == "refused"
    assert "give one of b, c" in str(refused.reason) and "no decision" in str(unknown.reason)
    assert log.head() == 0


def test_the_same_rater_again_is_a_revision(log: FeedbackLog) -> None:
    scores = [1.0, 0.0, 0.0, 0.5]
    receipts = [log.append([FeedbackEvent("d0", s, "user", "ann")]).result(10)[0] for s in scores]
    assert [r.status for r in receipts] == ["recorded", "revised", "revised", "revised"]
    assert [(o.score, o.revises) for o in log.tail(0)] == [(1.0, None), (0.0, 1.0), (0.0, 0.0), (0.5, 0.0)]


def test_another_rater_source_or_decision_is_no_revision(log: FeedbackLog) -> None:
    events = [
        FeedbackEvent("d0", 1.0, "user", "ann"),
        FeedbackEvent("d0", 1.0, "user", "bob"),
        FeedbackEvent("d0", 1.0, "judge", "ann"),
        FeedbackEvent("d1", 1.0, "user", "ann"),
    ]
    assert [r.status for r in log.append(events).result(10)] == ["recorded"] * 4


def test_the_same_key_is_recorded_once(log: FeedbackLog) -> None:
    event = FeedbackEvent("d0", 1.0, "user", idempotency_key="k\x00")
    [first] = log.append([event]).result(10)
    again = log.append([event, event]).result(10)
    assert again == [Receipt("duplicate", first.seq)] * 2
    assert len(log.tail(0)) == 1


def test_a_key_used_for_another_decision_is_refused_and_does_not_tell_which(log: FeedbackLog) -> None:
    log.append([FeedbackEvent("d0", 1.0, "user", idempotency_key="k")]).result(10)
    [receipt] = log.append([FeedbackEvent("d1", 1.0, "user", idempotency_key="k")]).result(10)
    assert receipt.status == "refused" and "'k'" in str(receipt.reason) and "d0" not in str(receipt.reason)


def test_the_valid_events_of_a_list_are_accepted(log: FeedbackLog) -> None:
    events = [FeedbackEvent(d, 1.0, "user", str(i)) for i, d in enumerate(["d0", "no\ud800", "d1", "", "d2"])]
    receipts = log.append(events).result(10)
    assert [r.status for r in receipts] == ["recorded", "refused", "recorded", "refused", "recorded"]
    assert [o.seq for o in log.tail(0)] == [r.seq for r in receipts if r.seq is not None]


def test_a_thousand_events_keep_their_order(log: FeedbackLog) -> None:
    events = [FeedbackEvent(f"d{i % 3}", i / 1000, "judge", str(i)) for i in range(1000)]
    receipts = log.append(events).result(30)
    tail = log.tail(0, 2000)
    assert [o.score for o in tail] == [e.score for e in events]
    assert [o.seq for o in tail] == [r.seq for r in receipts]


_events = st.lists(
    st.builds(
        FeedbackEvent,
        decision_id=st.sampled_from(["d0", "d1", "gone"]),
        score=st.floats(0, 1),
        source=st.sampled_from(["user", "judge"]),
        rater=st.sampled_from(["", "ann"]),
        idempotency_key=st.none() | st.sampled_from(["k1", "k2"]),
    ),
    max_size=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_events, max_size=4))
def test_receipts_are_those_of_events_appended_one_by_one(log: FeedbackLog, batches: list[list[FeedbackEvent]]) -> None:
    run = uuid4().hex  # the database lives through all examples
    latest: dict[tuple[str, str, str], float] = {}
    keys: dict[str, tuple[str, int]] = {}
    start = log.head()
    expected_rows = []
    for batch in batches:
        batch = [
            FeedbackEvent(e.decision_id, e.score, e.source, f"{e.rater}{run}", "",
                          None if e.idempotency_key is None else f"{e.idempotency_key}{run}")
            for e in batch
        ]  # fmt: skip
        for event, receipt in zip(batch, log.append(batch).result(10), strict=True):
            who = (event.decision_id, event.source, event.rater)
            key = event.idempotency_key
            if event.decision_id == "gone" or (key in keys and keys[key][0] != event.decision_id):
                assert receipt.status == "refused" and receipt.seq is None and receipt.reason
            elif key in keys:
                assert (receipt.status, receipt.seq) == ("duplicate", keys[key][1])
            else:
                assert receipt.status == ("revised" if who in latest else "recorded") and receipt.seq is not None
                expected_rows.append((receipt.seq, event.score, latest.get(who)))
                latest[who] = event.score
                if key is not None:
                    keys[key] = (event.decision_id, receipt.seq)
    assert [(o.seq, o.score, o.revises) for o in log.tail(start)] == expected_rows


def test_tail_pages_and_counts(log: FeedbackLog) -> None:
    assert (log.head(), log.count_since(0), log.tail(0), log.list()) == (0, 0, [], [])
    log.append([FeedbackEvent("d0", 1.0, "user", str(i)) for i in range(5)]).result(10)
    first = log.tail(0, 3)
    rest = log.tail(first[-1].seq, 3)
    assert [o.rater for o in first + rest] == list("01234")
    assert log.head() == rest[-1].seq and log.count_since(first[-1].seq) == 2


def test_list_is_for_people(log: FeedbackLog) -> None:
    events = [
        FeedbackEvent("d0", 1.0, "user", "ann", "good", "k", "up"),
        FeedbackEvent("d1", 0.0, "user", "ann", "bad", None, "down"),
    ]
    log.append(events).result(10)
    assert [row.event for row in log.list()] == events[::-1]
    assert [(row.event, row.model) for row in log.list(decision_id="d1")] == [(events[1], "b")]


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan, math.inf])
def test_a_score_outside_its_range_is_never_an_event(score: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        FeedbackEvent("d0", score, "user")
    assert caught.value.param == "score"


def test_an_unknown_source_is_never_an_event() -> None:
    with pytest.raises(InvalidInput) as caught:
        FeedbackEvent("d0", 1.0, "me")  # type: ignore[arg-type]
    assert caught.value.param == "source"


def test_the_tail_never_skips_a_late_committer(log: FeedbackLog, database_url: str, database: Database) -> None:
    """A reader tails as a replica does while eight processes append; it must see each row once, in order."""
    each = 60
    children = [Child(feed, database_url, f"w{i}", each) for i in range(8)]
    start_together(children)
    seen: list[Observation] = []

    def pages() -> Iterator[int]:
        while any(child.process.is_alive() for child in children):
            yield 0
        yield 1

    for _ in pages():
        seen += log.tail(seen[-1].seq if seen else 0, 50)
    while page := log.tail(seen[-1].seq):
        seen += page
    for child in children:
        child.join()
    assert len(seen) == 8 * each == log.count_since(0)
    for rater in {o.rater for o in seen}:
        assert [o.score for o in seen if o.rater == rater] == [i / each for i in range(each)]
