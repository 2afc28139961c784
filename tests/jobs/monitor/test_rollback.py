"""A champion that feedback proves worse gives its place back by itself, once, and nobody else's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from agent.fit import fit
from agent.snapshot import Snapshot
from jobs.monitor.rollback import EVERY, Watch
from jobs.schedule.timetable import Timetable
from jobs.settings import JobSettings
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import DEMOTED, SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import WordEncoder, examples, false_scores, live, records, true_scores

LIVE = 600


@cache
def trained(misled: bool) -> Snapshot:
    """A snapshot that knows the models, or that was told falsehoods of one kind of prompts."""
    return fit(examples(records(240), false_scores if misled else true_scores), encoder=WordEncoder.fingerprint)


def publish(database: Database, misled: bool, by: str = "refresh") -> Snapshot:
    report = {"promoted": True, "reason": "better", "gate": {"pooled": {"mean": 0.04, "stderr": 0.01, "n": 90}}}
    return SnapshotStore(database).publish(trained(misled), status="champion", report=report, created_by=by)


@pytest.fixture
def watch(database: Database, writer: GroupCommitter) -> Watch:
    return Watch(SnapshotStore(database), FeedbackLog(database, writer))


def test_a_champion_worse_by_a_clear_margin_is_rolled_back_with_its_report(database: Database, watch: Watch) -> None:
    snapshots = SnapshotStore(database)
    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(LIVE, seed=7))
    assert watch.look() == 1
    now, then = {row.version: row for row in snapshots.list()}[1], snapshots.list()[0]
    assert (now.status, then.status) == ("champion", "retired")
    told = then.report[DEMOTED]
    assert told["reason"] == now.reason and "snapshot 2 is worse live by" in told["reason"]
    assert told["successor"] == 1 and told["promised"]["pooled"]["mean"] == 0.04
    assert told["live"]["upper"] < 0.0 and told["live"]["decisions"] == LIVE
    assert then.report["reason"] == "better", "the gate's report is kept"

    live(database, bad, records(LIVE, seed=8), "e")
    assert watch.look() is None and snapshots.champion_version() == 1, "the predecessor is on no probation"
    snapshots.promote(2, "I know better")
    live(database, bad, records(EVERY, seed=9), "f")
    assert watch.look() is None and snapshots.champion_version() == 2, "what is promoted by hand stays"


def test_a_champion_that_is_no_worse_stays(database: Database, watch: Watch) -> None:
    publish(database, misled=True)
    good = publish(database, misled=False)
    live(database, good, records(LIVE, seed=7))
    assert watch.look() is None
    assert SnapshotStore(database).champion_version() == 2


def by_hand(snapshots: SnapshotStore) -> None:
    snapshots.promote(1, "back")
    snapshots.promote(2, "and forth")


@pytest.mark.parametrize(
    ("by", "then"),
    [("refresh", by_hand), ("seed", lambda snapshots: None)],
)
def test_what_no_refresh_promoted_is_left_alone(
    database: Database, watch: Watch, by: str, then: Callable[[SnapshotStore], None]
) -> None:
    publish(database, misled=False)
    bad = publish(database, misled=True, by=by)
    then(SnapshotStore(database))
    live(database, bad, records(LIVE, seed=7))
    assert watch.look() is None
    assert SnapshotStore(database).champion_version() == 2


def test_a_first_snapshot_is_left_alone(database: Database, watch: Watch) -> None:
    live(database, publish(database, misled=True), records(60, seed=7))
    assert watch.look() is None


def test_a_predecessor_that_reads_other_embeddings_is_no_heir(database: Database, watch: Watch) -> None:
    publish(database, misled=False)
    other = replace(trained(True), meta={**trained(True).meta, "encoder": "words/v2"})
    SnapshotStore(database).publish(other, status="champion", report={"promoted": True}, created_by="refresh")
    live(database, other, records(LIVE, seed=7))
    assert watch.look() is None
    assert SnapshotStore(database).champion_version() == 2


def test_of_two_watches_one_deposes(database: Database, writer: GroupCommitter, watch: Watch) -> None:
    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(LIVE, seed=7))
    late = Watch(SnapshotStore(database), FeedbackLog(database, writer))
    assert watch.look() == 1
    assert late.look() is None
    assert SnapshotStore(database).champion_version() == 1


def test_little_feedback_proves_nothing_and_looks_wait_for_more(database: Database, watch: Watch) -> None:
    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(40, seed=7))
    assert watch.look() is None
    live(database, bad, records(EVERY - 1, seed=8), "e")
    assert watch._next == (2, 40 + EVERY)
    assert watch.look() is None and watch._next == (2, 40 + EVERY), "not looked at again yet"


def test_the_timetable_looks(world: Database, settings: JobSettings) -> None:
    publish(world, misled=False)
    live(world, publish(world, misled=True), records(LIVE, seed=7))
    quiet = settings.model_copy(update={"refresh_interval_s": 0, "refresh_min_feedback": 0})
    timetable = Timetable(world, quiet, lambda run: None)
    timetable.start()
    try:
        deadline = time.monotonic() + 30
        while SnapshotStore(world).champion_version() != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        timetable.stop()
