"""Decisions come back whole, and what was acknowledged is there after kill -9."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from agent.errors import UnknownDecision
from agent.types import Candidate, Decision, Encoded, Evidence, Part, TaskAssignment
from store.columns import clean
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord, Outcome
from store.feedback import FeedbackLog
from store.prompts import text_id
from store.writer import GroupCommitter
from tests.store.build import ENCODER, a_record
from tests.store.child import Child, acknowledge

_any_text = st.text(st.characters(exclude_categories=()), max_size=40)
_plain = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
_float = st.floats(-1e6, 1e6)
_unit = st.floats(0, 1)
_vector = st.lists(st.floats(-1, 1, width=32), max_size=8).map(lambda v: np.array(v, np.float32))


@pytest.fixture
def log(database: Database, writer: GroupCommitter) -> DecisionLog:
    """An empty log."""
    return DecisionLog(database, writer)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    names = draw(st.lists(_plain, min_size=1, max_size=4, unique=True))
    parts = st.dictionaries(_plain, st.builds(Part, _float, _float), max_size=3)
    return Decision(
        model=draw(st.sampled_from(names)),
        candidates=tuple(
            Candidate(
                name, draw(_unit), draw(_unit), draw(_float), draw(_float), draw(_unit), draw(parts),
                draw(st.none() | _plain), draw(_float), draw(_float),
            )
            for name in names
        ),
        task=TaskAssignment(draw(st.integers(-1, 10**6)), draw(_plain), draw(_unit)),
        evidence=tuple(Evidence(n, draw(_unit), draw(st.dictionaries(_plain, _unit, max_size=3))) for n in names[1:]),
        snapshot=draw(st.integers(0, 2**40)),
        position=draw(st.integers(0, 2**40)),
        encoded=Encoded(draw(_vector), draw(_vector), draw(st.integers(0, 2**20)), draw(_unit)),
        explored=draw(st.booleans()),
        why=draw(_plain),
        tasks=draw(st.none() | st.dictionaries(st.integers(-1, 10**6), _unit, max_size=3)),
        neighbourhood=draw(st.none() | st.integers(1, 10**12)),
    )  # fmt: skip


def same(a: DecisionRecord, b: DecisionRecord) -> bool:
    """Equal, arrays included."""
    for x, y in ((a.decision.encoded, b.decision.encoded),):
        if (x.tokens, x.coverage) != (y.tokens, y.coverage):
            return False
        if not (np.array_equal(x.embedding, y.embedding) and np.array_equal(x.features, y.features)):
            return False
    a, b = (replace(r, decision=replace(r.decision, encoded=None)) for r in (a, b))  # type: ignore[arg-type]
    return a == b


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    decision=decisions(),
    texts=st.tuples(_any_text, st.none() | _any_text, st.none() | _any_text, _any_text),
    cost_quality_tradeoff=_unit,
    kind=st.sampled_from(["chat", "route"]),
    age=st.timedeltas(timedelta(0), timedelta(days=9000)),
)
def test_a_decision_comes_back_whole(
    database: Database, writer: GroupCommitter, decision: Decision, texts: tuple[str, str | None, str | None, str],
    cost_quality_tradeoff: float, kind: str, age: timedelta,
) -> None:  # fmt: skip
    prompt, key, session, requested = texts
    record = DecisionRecord(
        id=uuid4().hex,
        created_at=datetime(2026, 1, 1, tzinfo=UTC) - age,
        decision=decision,
        encoder=uuid4().hex,  # so that no earlier example has encoded this prompt
        prompt=prompt,
        key=key,
        session=session,
        cost_quality_tradeoff=cost_quality_tradeoff,
        kind=kind,  # type: ignore[arg-type]
        requested_model=requested,
    )
    log = DecisionLog(database, writer)
    log.append(record).result(10)
    expected = replace(
        record,
        prompt=clean(prompt),
        key=None if key is None else clean(key),
        session=None if session is None else clean(session),
        requested_model=clean(requested),
    )
    found = log.get(record.id)
    assert found is not None and same(found, expected)


@given(_any_text)
def test_clean_text_is_encodable_and_changes_nothing_else(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\x00" not in cleaned and clean(cleaned) == cleaned
    if "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        assert cleaned == text


def test_a_number_that_is_not_finite_comes_back_as_nan(log: DecisionLog) -> None:
    record = a_record("d")
    parts = {"task": Part(0.5, math.nan)}
    odd = replace(record.decision.candidates[2], utility=-math.inf, shrinkage=math.nan, parts=parts)
    record = replace(record, decision=replace(record.decision, candidates=(*record.decision.candidates[:2], odd)))
    log.append(record).result(10)
    found = log.get("d")
    assert found is not None
    candidate = found.decision.candidates[2]
    assert math.isnan(candidate.utility) and math.isnan(candidate.shrinkage)
    assert candidate.parts["task"].estimate == 0.5 and math.isnan(candidate.parts["task"].weight)


def test_an_unknown_id_is_none(log: DecisionLog) -> None:
    assert log.get("\ud800nothing\x00") is None
    assert log.outcome("nothing") is None


def test_the_same_id_twice_changes_nothing(log: DecisionLog) -> None:
    log.append(a_record("d", model="a")).result(10)
    log.append(a_record("d", model="b")).result(10)
    found = log.get("d")
    assert found is not None and found.decision.model == "a"


def test_a_prompt_is_kept_once(database: Database, log: DecisionLog) -> None:
    for i in range(3):
        log.append(a_record(f"d{i}", prompt="the same")).result(10)
    log.append(a_record("other", prompt="the same", encoder="another")).result(10)
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM prompts")) == 2


@pytest.mark.parametrize("prompt", ["xyzzy secret", None])
def test_with_embedding_only_the_text_is_nowhere(
    database: Database, writer: GroupCommitter, prompt: str | None
) -> None:
    log = DecisionLog(database, writer, "embedding")
    log.append(a_record("d", prompt=prompt)).result(10)
    found = log.get("d")
    assert found is not None and found.prompt is None
    assert np.array_equal(found.decision.encoded.embedding, a_record("d", prompt=prompt).decision.encoded.embedding)
    with database.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                assert not any("xyzzy" in str(bytes(v) if isinstance(v, memoryview) else v) for v in row)
        if prompt is not None:
            assert connection.scalar(text("SELECT id FROM prompts")) == text_id(prompt, ENCODER)


def test_an_outcome_is_kept_and_replaced(log: DecisionLog) -> None:
    log.append(a_record("d")).result(10)
    assert log.outcome("d") is None
    log.complete("d", Outcome(status="error", error="upstream: \x00 gone")).result(10)
    last = Outcome(status="ok", latency_ms=12.5, input_tokens=3, output_tokens=4, cost_usd=0.25)
    log.complete("d", last).result(10)
    assert log.outcome("d") == last
    with pytest.raises(UnknownDecision):
        log.complete("never", last).result(10)


def test_recent_is_newest_first(log: DecisionLog) -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for i in (2, 0, 1):
        log.append(a_record(f"d{i}", created_at=start + timedelta(seconds=i))).result(10)
    assert [record.id for record in log.recent(2)] == ["d2", "d1"]


def test_what_was_acknowledged_survives_kill_9(database_url: str) -> None:
    child = Child(acknowledge, database_url, 5)
    assert child.receive() == "acknowledged"
    child.process.kill()
    child.process.join(10)
    database = Database.open(database_url)
    writer = GroupCommitter(database)
    log = DecisionLog(database, writer)
    assert all(log.get(f"d{i}") is not None for i in range(5))
    assert [o.decision_id for o in FeedbackLog(database, writer).tail(0)] == [f"d{i}" for i in range(5)]
    writer.close()
    database.close()
