"""A champion that feedback proves worse than its predecessor is demoted; one that no refresh promoted is not monitored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from jobs.monitor.rollback import MIN_NEW_FEEDBACK, ChampionMonitor
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import DEMOTED, SnapshotStore
from store.trials import TrialStore
from store.writer import GroupCommitter
from tests.jobs.conftest import MakeTimetable
from tests.jobs.made import live, publish, records, trained, until

LIVE = 600


@pytest.fixture
def monitor(database: Database, writer: GroupCommitter) -> ChampionMonitor:
    return ChampionMonitor(SnapshotStore(database), FeedbackLog(database, writer), TrialStore(database))


def test_a_champion_worse_by_a_clear_margin_is_demoted_with_a_report(
    database: Database, monitor: ChampionMonitor
) -> None:
    snapshots = SnapshotStore(database)
    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(LIVE, seed=7))
    assert monitor.check() == 1
    now, then = {row.version: row for row in snapshots.list()}[1], snapshots.list()[0]
    assert (now.status, then.status) == ("champion", "retired")
    report = then.report[DEMOTED]
    assert report["reason"] == now.reason and "snapshot 2 is worse live by" in report["reason"]
    assert report["successor"] == 1 and report["promised"]["pooled"]["mean"] == 0.04
    assert report["live"]["upper"] < 0.0 and report["live"]["decisions"] == LIVE
    assert then.report["reason"] == "better", "the gate's report is kept"

    live(database, bad, records(LIVE, seed=8), "e")
    assert monitor.check() is None and snapshots.champion_version() == 1, "the predecessor is not monitored"
    snapshots.promote(2, "I know better")
    live(database, bad, records(MIN_NEW_FEEDBACK, seed=9), "f")
    assert monitor.check() is None and snapshots.champion_version() == 2, "a champion promoted by hand stays"


def test_a_champion_that_is_no_worse_stays(database: Database, monitor: ChampionMonitor) -> None:
    publish(database, misled=True)
    good = publish(database, misled=False)
    live(database, good, records(LIVE, seed=7))
    assert monitor.check() is None
    assert SnapshotStore(database).champion_version() == 2


def by_hand(snapshots: SnapshotStore) -> None:
    snapshots.promote(1, "back")
    snapshots.promote(2, "and forth")


@pytest.mark.parametrize(
    ("by", "then"),
    [("refresh", by_hand), ("seed", lambda snapshots: None)],
)
def test_a_champion_that_no_refresh_promoted_is_not_monitored(
    database: Database, monitor: ChampionMonitor, by: str, then: Callable[[SnapshotStore], None]
) -> None:
    publish(database, misled=False)
    bad = publish(database, misled=True, by=by)
    then(SnapshotStore(database))
    live(database, bad, records(LIVE, seed=7))
    assert monitor.check() is None
    assert SnapshotStore(database).champion_version() == 2


def test_a_first_snapshot_is_not_monitored(database: Database, monitor: ChampionMonitor) -> None:
    live(database, publish(database, misled=True), records(60, seed=7))
    assert monitor.check() is None


def test_a_predecessor_of_another_encoder_is_no_successor(database: Database, monitor: ChampionMonitor) -> None:
    publish(database, misled=False)
    other = replace(trained(True), meta={**trained(True).meta, "encoder": "words/v2"})
    SnapshotStore(database).publish(other, status="champion", report={"promoted": True}, created_by="refresh")
    live(database, other, records(LIVE, seed=7))
    assert monitor.check() is None
    assert SnapshotStore(database).champion_version() == 2


def test_of_two_monitors_one_demotes(database: Database, writer: GroupCommitter, monitor: ChampionMonitor) -> None:
    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(LIVE, seed=7))
    late = ChampionMonitor(SnapshotStore(database), FeedbackLog(database, writer), TrialStore(database))
    assert monitor.check() == 1
    assert late.check() is None
    assert SnapshotStore(database).champion_version() == 1


def test_little_feedback_proves_nothing_and_checks_wait_for_more(
    database: Database, monitor: ChampionMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []
    list_all = SnapshotStore.list

    def counted(self: SnapshotStore) -> object:
        listed.append(1)
        return list_all(self)

    publish(database, misled=False)
    bad = publish(database, misled=True)
    live(database, bad, records(40, seed=7))
    monkeypatch.setattr(SnapshotStore, "list", counted)
    assert monitor.check() is None and len(listed) == 1
    live(database, bad, records(MIN_NEW_FEEDBACK - 1, seed=8), "e")
    assert monitor.check() is None and len(listed) == 1, "not checked again yet"
    live(database, bad, records(1, seed=9), "f")
    assert monitor.check() is None and len(listed) == 2


def test_the_timetable_checks(home_database: Database, make_timetable: MakeTimetable) -> None:
    publish(home_database, misled=False)
    live(home_database, publish(home_database, misled=True), records(LIVE, seed=7))
    make_timetable(home_database, start=True, refresh_schedule="off", refresh_min_feedback=0)
    until(lambda: SnapshotStore(home_database).champion_version() == 1)
