"""The judge of the running trial: a better challenger is promoted, a worse champion demoted, by one of many schedulers."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from agent.errors import SnapshotCorrupt
from agent.evaluation.trial import HOLD_BACK, TRIAL
from agent.router import Router
from agent.trial import route_on_trial
from agent.types import ModelCard, RouteRequest, Turn
from jobs.monitor.trials import MIN_NEW_FEEDBACK, TrialMonitor
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.feedback import FeedbackEvent, FeedbackLog
from store.snapshots import DEMOTED, SnapshotStore
from store.trials import TrialPlan, TrialRow, TrialStore, TrialTotals
from store.writer import GroupCommitter
from tests.jobs.conftest import MakeTimetable
from tests.jobs.made import MODELS, WordEncoder, publish, records, trained, until

PLAN = TrialPlan(replace(TRIAL, most=400.0), 14.0)


@pytest.fixture
def monitor(database: Database, writer: GroupCommitter) -> TrialMonitor:
    return a_monitor(database, writer)


def a_monitor(database: Database, writer: GroupCommitter, hold_back: TrialPlan | None = None) -> TrialMonitor:
    return TrialMonitor(SnapshotStore(database), TrialStore(database), FeedbackLog(database, writer), hold_back)


def on_trial(database: Database, misled: bool, plan: TrialPlan = PLAN) -> TrialRow:
    SnapshotStore(database).publish(
        trained(misled), status="trial", report={"reason": "on trial: undecided"}, created_by="refresh", plan=plan
    )
    return TrialStore(database).list()[0]


def held_back(database: Database, misled: bool) -> TrialRow:
    SnapshotStore(database).publish(
        trained(misled), status="champion", report={"reason": "outgrown"}, created_by="refresh",
        plan=TrialPlan(replace(HOLD_BACK, most=400.0), 14.0),
    )  # fmt: skip
    return TrialStore(database).list()[0]


def serve(
    database: Database, trial: TrialRow, n: int, seed: int, *, scored: bool = True, inverted: bool = False
) -> None:
    """Route ``n`` prompts of history as a replica does while ``trial`` runs; each answer gets its true score, or 1 less it."""
    snapshots, rows = SnapshotStore(database), [r for r in records(3 * n, seed) if r["source"] == "history"]
    cards = [ModelCard(name) for name in MODELS]
    champion, challenger = (Router(snapshots.load(v), cards) for v in (trial.champion, trial.challenger))
    writer, rng = GroupCommitter(database), np.random.default_rng(seed)
    decisions, events = DecisionLog(database, writer), []
    for i, row in enumerate(rows):
        request = RouteRequest((Turn("user", row["prompt"]),), cost_quality_tradeoff=1.0)
        [encoded] = WordEncoder().encode([request.turns])
        decision = route_on_trial(champion, challenger, trial.trial, encoded, request, rng)
        written = decisions.append(
            DecisionRecord(
                id=f"{seed}-{i}", created_at=datetime.now(UTC), decision=decision, encoder=WordEncoder.fingerprint,
                prompt=row["prompt"],
            )
        )  # fmt: skip
        score = row["scores"][decision.model]
        events.append(FeedbackEvent(f"{seed}-{i}", 1.0 - score if inverted else score, "judge"))
    written.result()
    if scored:
        FeedbackLog(database, writer).append(events).result()
    writer.close()


def test_a_better_challenger_wins_its_trial_and_a_scheduler_that_restarts_goes_on(
    database: Database, writer: GroupCommitter, monitor: TrialMonitor
) -> None:
    publish(database, misled=True)
    trial = on_trial(database, misled=False)
    assert monitor.check() is None
    serve(database, trial, 40, seed=7)
    assert monitor.check() is None
    [kept] = TrialStore(database).list()
    assert kept.report["n"] > 20 and kept.report["mean"] > 0.2 and kept.report["decisions"] >= kept.report["n"]
    serve(database, trial, 200, seed=8)
    assert a_monitor(database, writer).check() == trial.challenger, "it depends on the store alone"
    snapshots = SnapshotStore(database)
    assert snapshots.champion_version() == 2 and TrialStore(database).list()[0].state == "promoted"
    reason = str(snapshots.list()[0].reason)
    assert reason.startswith("promoted: better on trial with 95% confidence") and "beside snapshot 1" in reason
    assert monitor.check() is None


def test_a_challenger_that_wins_its_trial_is_held_back_and_demoted_where_traffic_turns(
    database: Database, writer: GroupCommitter
) -> None:
    monitor = a_monitor(database, writer, TrialPlan(replace(HOLD_BACK, most=400.0), 14.0))
    publish(database, misled=True)
    serve(database, on_trial(database, misled=False), 250, seed=7)
    assert monitor.check() == 2
    held = TrialStore(database).running()
    assert held is not None and (held.kind, held.champion, held.challenger) == ("hold-back", 2, 1)
    assert held.plan.config.share == HOLD_BACK.share and held.reason.startswith("promoted: better on trial")
    serve(database, held, 250, seed=8, inverted=True)
    assert monitor.check() == 1 and TrialStore(database).running() is None, "who is put back is not held back"


def test_a_worse_challenger_is_rejected(database: Database, monitor: TrialMonitor) -> None:
    publish(database, misled=False)
    serve(database, on_trial(database, misled=True), 250, seed=7)
    assert monitor.check() is None
    assert TrialStore(database).list()[0].state == "rejected"
    assert [row.status for row in SnapshotStore(database).list()] == ["rejected", "champion"]


def test_a_worse_champion_is_demoted_by_its_hold_back(database: Database, monitor: TrialMonitor) -> None:
    publish(database, misled=False)
    trial = held_back(database, misled=True)
    serve(database, trial, 250, seed=7)
    assert monitor.check() == 1
    snapshots = SnapshotStore(database)
    assert snapshots.champion_version() == 1
    now, then = {row.version: row for row in snapshots.list()}[1], snapshots.list()[0]
    assert (now.status, then.status) == ("champion", "retired")
    why = then.report[DEMOTED]
    assert why["reason"] == now.reason and "worse than its predecessor with 95% confidence" in why["reason"]
    assert why["successor"] == 1 and why["live"]["lower"] > 0.0 and why["live"]["n"] > 50
    assert then.report["reason"] == "outgrown", "the gate's report is kept"


def test_a_better_champion_is_kept(database: Database, monitor: TrialMonitor) -> None:
    publish(database, misled=True)
    serve(database, held_back(database, misled=False), 250, seed=7)
    assert monitor.check() is None
    assert SnapshotStore(database).champion_version() == 2
    assert TrialStore(database).list()[0].why.startswith("kept: better than its predecessor")


def test_of_two_schedulers_at_once_one_ends_the_trial(
    database: Database, writer: GroupCommitter, monitor: TrialMonitor
) -> None:
    publish(database, misled=True)
    serve(database, on_trial(database, misled=False), 250, seed=7)
    gate, found = threading.Barrier(2), list[int | None]()

    def check(one: TrialMonitor) -> None:
        gate.wait()
        found.append(one.check())

    threads = [threading.Thread(target=check, args=(m,)) for m in (monitor, a_monitor(database, writer))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == ["2", "None"] and SnapshotStore(database).champion_version() == 2


def test_a_trial_ends_by_its_time_and_by_its_bounds_without_feedback(
    database: Database, monitor: TrialMonitor, writer: GroupCommitter
) -> None:
    publish(database, misled=False)
    trial = on_trial(database, misled=False)
    assert monitor.check(trial.ends_at - timedelta(seconds=1)) is None and TrialStore(database).running() is not None
    assert monitor.check(trial.ends_at) is None
    [ended] = TrialStore(database).list()
    assert ended.state == "let go" and "its time is over" in ended.why and "beside snapshot 1" in ended.why

    few = TrialPlan(replace(TRIAL, most_decisions=20), 14.0)
    trial = on_trial(database, misled=True, plan=few)
    now = datetime.now(UTC)
    assert monitor.check(now) is None
    serve(database, trial, 60, seed=9, scored=False)
    assert monitor.check(now + timedelta(seconds=30)) is None and TrialStore(database).running() is not None
    assert monitor.check(now + timedelta(seconds=61)) is None and TrialStore(database).running() is None


def test_looks_wait_for_more_feedback(
    database: Database, monitor: TrialMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    publish(database, misled=False)
    trial = on_trial(database, misled=False)
    totals = TrialStore.totals

    def counted(self: TrialStore, trial: int) -> TrialTotals:
        looks.append(trial)
        return totals(self, trial)

    monkeypatch.setattr(TrialStore, "totals", counted)
    now = datetime.now(UTC)
    for n, expected in ((MIN_NEW_FEEDBACK, 1), (MIN_NEW_FEEDBACK - 1, 1), (1, 2)):
        serve(database, trial, n, seed=n)
        monitor.check(now)
        assert len(looks) == expected


def test_a_snapshot_that_cannot_be_read_ends_its_trial(
    database: Database, monitor: TrialMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupt(*_: object) -> None:
        raise SnapshotCorrupt("snapshot 2 has 3 of its 4 heads")

    publish(database, misled=False)
    on_trial(database, misled=False)
    monkeypatch.setattr(SnapshotStore, "load", corrupt)
    assert monitor.check() is None
    [ended] = TrialStore(database).list()
    assert (ended.state, ended.why) == ("ended", "ended: snapshot 2 has 3 of its 4 heads")


def test_the_timetable_judges(home_database: Database, make_timetable: MakeTimetable) -> None:
    publish(home_database, misled=True)
    serve(home_database, on_trial(home_database, misled=False), 250, seed=7)
    make_timetable(home_database, start=True, refresh_schedule="off", refresh_min_feedback=0)
    until(lambda: SnapshotStore(home_database).champion_version() == 2)
    held = TrialStore(home_database).running()
    assert held is not None and (held.kind, held.challenger) == ("hold-back", 1)
