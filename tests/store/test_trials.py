"""One trial runs at a time, always beside the champion: it starts with a publication and ends with whatever ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from agent.errors import ChampionChanged, InvalidInput, SnapshotCorrupt
from agent.evaluation.trial import TRIAL
from agent.types import TrialChoice
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackEvent, FeedbackLog
from store.snapshot_views import SnapshotView, TrialView
from store.snapshots import DEMOTED, SnapshotStore
from store.trials import TrialPlan, TrialRow, TrialStore
from store.views import RecordedDecisionView
from store.writer import GroupCommitter
from tests.store.build import a_record, a_snapshot

PLAN = TrialPlan(TRIAL, 14.0)
FIGURES = {"n": 120, "mean": 0.0213, "stderr": 0.0105, "lower": -0.01, "upper": 0.05, "decisions": 300,
           "expected_regret": 1.25}  # fmt: skip


@pytest.fixture
def store(database: Database) -> SnapshotStore:
    return SnapshotStore(database)


@pytest.fixture
def trials(database: Database) -> TrialStore:
    return TrialStore(database)


def champion(store: SnapshotStore, plan: TrialPlan | None = None) -> int:
    report = {"reason": "promoted without proof" if plan else "promoted: better"}
    return store.publish(a_snapshot(), status="champion", report=report, created_by="refresh", plan=plan).version


def on_trial(store: SnapshotStore, beside: int, supersedes: int | None = None) -> int:
    return store.publish(
        a_snapshot(), status="trial", report={"reason": "on trial: undecided"}, created_by="refresh",
        expected_champion=beside, plan=PLAN, supersedes=supersedes,
    ).version  # fmt: skip


def the(trials: TrialStore) -> TrialRow:
    """The latest trial."""
    return trials.list()[0]


def statuses(store: SnapshotStore) -> list[str]:
    """Of the snapshots, oldest first."""
    return [row.status for row in reversed(store.list())]


def test_a_challenger_goes_on_trial_beside_the_champion_and_one_runs_at_a_time(
    store: SnapshotStore, trials: TrialStore
) -> None:
    one = champion(store)
    two = on_trial(store, one)
    running = trials.running()
    assert running is not None and running == the(trials)
    assert (running.kind, running.champion, running.challenger, running.plan) == ("trial", one, two, PLAN)
    assert (running.trial.share, running.reason, running.report) == (TRIAL.share, "on trial: undecided", {})
    assert statuses(store) == ["champion", "trial"]
    with pytest.raises(ChampionChanged, match=f"trial {running.id} was started meanwhile, of snapshot {two}"):
        on_trial(store, one)
    three = on_trial(store, one, supersedes=running.id)
    assert statuses(store) == ["champion", "rejected", "trial"]
    assert (the(trials).challenger, the(trials).state) == (three, "running")
    assert trials.list()[1].why == f"ended: snapshot {three}, which knows more, is tried instead"
    with pytest.raises(ChampionChanged, match="no longer 7"):
        on_trial(store, 7)


@pytest.mark.parametrize("state", ["rejected", "let go", "ended"])
def test_a_trial_that_is_not_won_leaves_the_champion_and_rejects_the_challenger(
    store: SnapshotStore, trials: TrialStore, state: str
) -> None:
    one = champion(store)
    on_trial(store, one)
    assert trials.keep_figures(the(trials).id, FIGURES)
    assert store.settle(the(trials).id, state, "because", FIGURES | {"n": 130})  # type: ignore[arg-type]
    ended = the(trials)
    assert (ended.state, ended.why, ended.report["n"], trials.running()) == (state, "because", 130, None)
    assert ended.ended_at is not None and ended.ended_at > ended.started_at
    assert statuses(store) == ["champion", "rejected"] and store.champion_version() == one
    assert not trials.keep_figures(ended.id, {}) and the(trials).report["n"] == 130
    assert not store.settle(ended.id, "promoted", "too late", {}), "it has ended"
    assert [t.id for t in trials.beside(one)] == ([] if state == "ended" else [ended.id])


def test_a_trial_that_is_won_makes_the_challenger_champion(store: SnapshotStore, trials: TrialStore) -> None:
    two = on_trial(store, champion(store))
    assert store.settle(the(trials).id, "promoted", "better on trial", FIGURES)
    assert statuses(store) == ["retired", "champion"] and the(trials).state == "promoted"
    row = store.list()[0]
    assert (row.version, row.reason, row.promoted_by_publication) == (two, "better on trial", False)
    assert SnapshotView.of(row, the(trials)).why == "better on trial" and trials.running() is None


def test_a_challenger_that_won_is_held_back_against_the_champion_before(
    store: SnapshotStore, trials: TrialStore
) -> None:
    one = champion(store)
    two = on_trial(store, one)
    held_back = replace(PLAN, max_days=3.0)
    assert store.settle(the(trials).id, "promoted", "better on trial", FIGURES, held_back)
    held, won = trials.list()
    assert (won.state, held.state, held.kind, held.champion, held.challenger) == (
        "promoted",
        "running",
        "hold-back",
        two,
        one,
    )
    assert (held.plan, held.reason, held.report) == (held_back, "better on trial", {})
    assert SnapshotView.of_all(store.list(), trials.list())[0].why.startswith("better on trial, nothing is proven yet")
    assert store.settle(held.id, "promoted", "worse than its predecessor", FIGURES, held_back)
    assert store.champion_version() == one and trials.running() is None, "who is put back is not held back"


def test_a_hold_back_that_finds_the_champion_worse_puts_its_predecessor_back(
    store: SnapshotStore, trials: TrialStore
) -> None:
    one = champion(store, PLAN)
    assert trials.list() == [], "the first has no predecessor"
    two = champion(store, PLAN)
    assert (the(trials).kind, the(trials).champion, the(trials).challenger) == ("hold-back", two, one)
    assert statuses(store) == ["retired", "champion"] and the(trials).tried == two
    assert store.settle(the(trials).id, "promoted", "worse than its predecessor", FIGURES)
    assert store.champion_version() == one and trials.running() is None
    demoted = store.list()[0].report[DEMOTED]
    assert (demoted["reason"], demoted["successor"], demoted["live"]["n"]) == ("worse than its predecessor", one, 120)
    assert SnapshotView.of(store.list()[0], the(trials)).why == "worse than its predecessor"
    with pytest.raises(InvalidInput, match="no former champion"):
        store.rollback("a rollback passes over it")


@pytest.mark.parametrize(
    ("by_hand", "state", "why"),
    [
        (lambda s: s.promote(3, "mine"), "promoted", "mine"),
        (lambda s: s.promote(2, "stay"), "ended", "ended: snapshot 2 is to stay champion (stay)"),
        (lambda s: s.promote(1, "old"), "ended", "ended: snapshot 1 was made champion (old)"),
        (lambda s: s.rollback("back"), "ended", "ended: snapshot 1 was made champion (back)"),
        (champion, "ended", "ended: snapshot 4 was made champion (published by refresh)"),
        (lambda s: s.end_trial("enough"), "ended", "enough"),
    ],
)
def test_whatever_moves_the_champion_ends_the_trial(
    store: SnapshotStore, trials: TrialStore, by_hand: Callable[[SnapshotStore], object], state: str, why: str
) -> None:
    champion(store)
    on_trial(store, champion(store))
    by_hand(store)
    assert (the(trials).state, the(trials).why, trials.running()) == (state, why, None)
    assert "trial" not in statuses(store) and statuses(store).count("champion") == 1
    with pytest.raises(InvalidInput, match="no trial runs"):
        store.end_trial("again")


def test_of_several_schedulers_at_once_one_settles(store: SnapshotStore, trials: TrialStore) -> None:
    on_trial(store, champion(store))
    trial, gate, done = the(trials).id, threading.Barrier(6), []

    def settle(state: str) -> None:
        gate.wait()
        done.append(store.settle(trial, state, state, FIGURES))  # type: ignore[arg-type]

    threads = [threading.Thread(target=settle, args=(state,)) for state in ["promoted", "rejected", "let go"] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 5 + [True]
    assert statuses(store) == (["retired", "champion"] if the(trials).state == "promoted" else ["champion", "rejected"])
    assert the(trials).reason == the(trials).state


def test_a_crash_between_the_steps_changes_nothing(
    database: Database, store: SnapshotStore, trials: TrialStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    one = champion(store)
    with monkeypatch.context() as patched:
        patched.setattr("store.snapshots.start_trial", crash)
        with pytest.raises(KeyboardInterrupt):
            champion(store, PLAN)
        with pytest.raises(KeyboardInterrupt):
            on_trial(store, one)
    assert statuses(store) == ["champion"] and trials.list() == []
    on_trial(store, one)
    before = the(trials)
    for step in ("close_trial", "update_tasks"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"store.snapshots.{step}", crash)
            store.settle(before.id, "promoted", "better", FIGURES)
    assert statuses(store) == ["champion", "trial"] and the(trials) == before
    with database.connect(write=True) as connection:
        connection.execute(text("DELETE FROM heads WHERE task = 2"))
        connection.commit()
    with pytest.raises(SnapshotCorrupt):
        store.settle(before.id, "promoted", "better", FIGURES)
    assert the(trials) == before, "it runs on"


def test_a_decision_keeps_what_its_trial_needs(
    database: Database, store: SnapshotStore, trials: TrialStore, writer: GroupCommitter
) -> None:
    on_trial(store, champion(store))
    trial = the(trials).id
    choice = TrialChoice(trial, "a", "b", 0.8, 0.7, 0.05)
    log, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    for i, tried in enumerate([choice, None, replace(choice, expected_regret=0.1)]):
        record = a_record(f"d{i}")
        log.append(replace(record, decision=replace(record.decision, trial=tried))).result()
        feedback.append([FeedbackEvent(f"d{i}", 1.0, "user")]).result()
    found = log.get("d0")
    assert found is not None and found.decision.trial == choice
    assert RecordedDecisionView.of_record(found, None, []).trial == choice
    assert [o.trial for o in feedback.tail(0)][:2] == [choice, None]
    assert [o.decision_id for o in feedback.between(0, 9, trial=trial)] == ["d0", "d2"]
    totals = trials.totals(trial)
    assert totals.decisions == 2 and totals.expected_regret == pytest.approx(0.15)
    assert trials.totals(9).expected_regret == 0.0


def test_the_views_say_how_it_stands(store: SnapshotStore, trials: TrialStore) -> None:
    one = champion(store)
    two = on_trial(store, one)
    first = TrialView.of(the(trials))
    assert (first.scored, first.difference, first.lower) == (0, None, None) and "fewer than two" in first.why
    trials.keep_figures(the(trials).id, FIGURES)
    view = TrialView.of(the(trials), datetime.now(UTC))
    assert (view.scored, view.difference, view.upper, view.expected_regret) == (120, 0.0213, 0.05, 1.25)
    assert view.days_left is not None and 13.9 < view.days_left < 14.0
    why = (
        f"on trial beside snapshot {one}, nothing is proven yet (difference +0.0213 +- 0.0105 over 120 scored requests)"
    )
    new, old = SnapshotView.of_all(store.list(), trials.list())
    assert (new.why, new.status, old.why, old.trial) == (why, "trial", "promoted: better", None)
    three = champion(store, PLAN)
    trials.keep_figures(the(trials).id, FIGURES)
    held, tried, _ = SnapshotView.of_all(store.list(), trials.list())
    assert held.version == three and held.trial is not None and held.trial.kind == "hold-back"
    assert held.why.startswith("promoted without proof, nothing is proven yet (difference +0.0213")
    assert (tried.version, tried.status) == (two, "rejected") and "was made champion" in tried.why
    store.settle(the(trials).id, "let go", "kept: not proven worse", FIGURES)
    assert SnapshotView.of_all(store.list(), trials.list())[0].why == "promoted without proof; kept: not proven worse"
