"""A store that commit 4c91bbd left behind, migrated and read; `data/make_old_store.py` made it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import MetaData, create_engine, text

from agent.errors import SnapshotCorrupt
from store.database import Database, config
from store.decisions import DecisionLog
from store.drifts import DriftStore
from store.evaluations import EvaluationStore
from store.examples import feedback_examples
from store.feedback import FeedbackLog
from store.lineage import TaskLineage
from store.pool.models import ModelPool
from store.runs import JobRuns
from store.snapshots import DEMOTED, SnapshotStore
from store.writer import GroupCommitter
from tests.store.build import restore_old_store

ENCODER = "words/v1"


def copy_to_postgres(path: Path, url: str) -> None:
    """The old store in PostgreSQL, with the old schema."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    source = create_engine(f"sqlite:///{path}")
    old, new = MetaData(), MetaData()
    with source.connect() as reader, engine.begin() as writer:
        writer.execute(text("SET TIME ZONE 'UTC'"))
        command.upgrade(config(writer), "0003")
        old.reflect(reader)
        new.reflect(writer)
        for table in new.sorted_tables:
            rows = [dict(row._mapping) for row in reader.execute(old.tables[table.name].select())]
            if table.name != "alembic_version" and rows:
                writer.execute(table.insert(), rows)
    source.dispose()
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The old store, opened by this Thalweg."""
    path = restore_old_store(tmp_path / "old" / "thalweg.db")
    url = f"sqlite:///{path}"
    if request.param == "postgres":
        url = str(request.getfixturevalue("empty_postgres_url"))
        copy_to_postgres(path, url)
    database = Database.open(url)
    yield database
    database.close()


@pytest.fixture
def log(old: Database) -> Iterator[FeedbackLog]:
    writer = GroupCommitter(old)
    yield FeedbackLog(old, writer)
    writer.close()


def test_every_list_is_read(old: Database, log: FeedbackLog) -> None:
    assert [m.card.name for m in ModelPool(old).list()] == ["cheap", "chef", "maths", "scholar"]
    assert [(r.job, r.state, r.requested_by) for r in JobRuns(old).list()] == [
        ("refresh", "queued", "waiting"), ("refresh", "done", "made"),
    ]  # fmt: skip
    assert JobRuns(old).get(1).result == {"version": 1}
    (drift,) = DriftStore(old).list()
    assert (drift.drift.model, drift.drift.since, drift.snapshot) == ("cheap", 20, 1)
    examples, labels = EvaluationStore(old).examples(ENCODER)
    assert len(examples) == len(labels) == 60 and {label.source for label in labels} == {
        "cooking",
        "algebra",
        "history",
    }
    assert len(log.list(limit=1000)) == log.head() == 68
    assert len(feedback_examples(old, ENCODER, 68)) == 36


def test_tasks_keep_their_origin(old: Database) -> None:
    lineage = TaskLineage(old)
    tasks = lineage.list(include_retired=True)
    assert [t.id for t in tasks] == list(range(9))
    assert all((t.spawned_in, t.parents, t.successor, t.retired_in) == (1, (), None, None) for t in tasks)
    events = lineage.events(0)
    assert [(e.snapshot, e.event.kind, e.promoted) for e in events] == [
        (1, "spawn", True),
        (2, "keep", False),
        (3, "spawn", True),
    ]
    assert events[0].event.figures["prompts"] > 0 and "overlap of" in events[1].why
    used = {event.event.task for task in range(50) for event in lineage.events(task)}
    assert lineage.next_id() == max(used) + 1 == 9


def test_a_rolled_back_snapshot_keeps_why(old: Database) -> None:
    rows = {row.version: row for row in SnapshotStore(old).list()}
    assert [(v, rows[v].status) for v in sorted(rows)] == [(1, "champion"), (2, "rejected"), (3, "retired")]
    assert rows[3].report["reason"] == "better" and "deposed" not in rows[3].report
    demoted = rows[3].report[DEMOTED]
    assert demoted["successor"] == 1 and "heir" not in demoted and demoted["live"]["decisions"] == 240
    assert demoted["reason"] == rows[1].reason


def test_decisions_are_read_whole(old: Database) -> None:
    writer = GroupCommitter(old)
    decisions = DecisionLog(old, writer)
    assert len(decisions.recent(100)) == 36
    record = decisions.get("routed1")
    assert record is not None and record.cost_quality_tradeoff == 0.7 and record.session == "s"
    assert len(record.decision.evidence) == 5
    for candidate in record.decision.candidates[:4]:
        assert candidate.parts.keys() == {"task", "head", "online"}
        assert candidate.utility == pytest.approx(candidate.quality + candidate.shrinkage - candidate.cost_penalty)
        assert candidate.shrinkage != 0.0 and candidate.cost_penalty > 0.0
        assert all(math.isnan(part.weight) for part in candidate.parts.values())
    assert record.decision.candidates[4].excluded == "unavailable"
    assert [decisions.outcome(f"routed{i}") is not None for i in range(4)] == [True, True, True, False]
    writer.close()


def test_feedback_is_learned_from_as_before(old: Database, log: FeedbackLog) -> None:
    observations = log.tail(0)
    assert len(observations) == 68
    first, comparison = observations[0], next(o for o in observations if o.other is not None)
    assert (first.rater, first.source, first.key, first.encoder) == ("ann", "user", "bootstrap", ENCODER)
    assert 0.0 < first.expected < 1.0 and len(first.actions) == 4
    assert sum(action.propensity for action in first.actions) == pytest.approx(1.0)
    assert not math.isnan(comparison.expected_other)
    assert sum(o.revises is not None for o in observations) == 4


def test_the_champion_of_an_older_format_names_the_command(old: Database) -> None:
    store = SnapshotStore(old)
    champion = store.champion()
    assert champion is not None and champion.version == 1 and not champion.readable
    assert champion.models == ("cheap", "chef", "maths", "scholar")
    with pytest.raises(SnapshotCorrupt, match="format 3.*run `thalweg refresh`") as caught:
        store.load(1)
    assert "\n" not in caught.value.message


def test_nothing_is_rewritten_twice(old: Database) -> None:
    query = text("SELECT candidates FROM decisions ORDER BY id")
    with old.connect() as connection:
        kept = [json.loads(v) if isinstance(v, (str, bytes)) else v for v in connection.execute(query).scalars()]
    assert all("caution" not in c["parts"] for found in kept for c in found)
