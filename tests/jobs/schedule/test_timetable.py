"""Refreshes are requested when they are due; queued runs are executed one at a time and closed as done or failed."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InvalidInput
from agent.types import ModelCard
from store.columns import utc_now
from store.database import Database
from store.feedback import FeedbackEvent
from store.joins import JoinStore
from store.kept_answers import KeptAnswers
from store.pool.file import PoolFile, PoolModel, Provider
from store.pool.models import ModelPool
from store.runs import JobRuns, Run
from store.schedule import JobPlan, next_run, scheduled_jobs
from store.snapshots import SnapshotStore
from store.tables import ModelTable
from store.writer import GroupCommitter
from tests.jobs.conftest import MakeTimetable
from tests.jobs.made import age_snapshots, give_feedback, publish, record_decision, until
from tests.store.build import a_snapshot

QUIET: dict[str, Any] = {"refresh_schedule": "off", "refresh_min_feedback": 0}


@pytest.fixture
def runs(home_database: Database) -> JobRuns:
    return JobRuns(home_database)


def claim(runs: JobRuns) -> Run:
    run = runs.claim(["refresh"], "test")
    assert run is not None
    return run


def feedback(database: Database, first: int, count: int) -> None:
    record_decision(database, "d", {"a": 1.0})
    give_feedback(database, *(FeedbackEvent("d", 1.0, "user", str(first + i)) for i in range(count)))


def test_a_queued_run_is_executed_and_two_never_at_once(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    release, at_once = threading.Semaphore(0), []
    running: list[int] = []

    def execute(run: Run) -> None:
        running.append(run.id)
        at_once.append(len(running))
        release.acquire(timeout=10)
        running.remove(run.id)
        runs.finish(run.id, {"position": 0})

    make_timetable(home_database, execute, start=True, **QUIET)
    first = runs.request("refresh", {}, "test")
    until(lambda: runs.get(first).state == "running")
    second = runs.request("refresh", {}, "test")
    time.sleep(1.5)
    assert runs.get(second).state == "queued"
    release.release(2)
    until(lambda: runs.get(second).state == "done")
    assert at_once == [1, 1]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@pytest.mark.parametrize(
    ("schedule", "hours"), [("interval: 6h", 6), ("0 3 * * *", 15), ("30 18 * * thu", 6.5), ("off", None)]
)
def test_a_refresh_is_due_by_its_schedule_counted_from_the_last_run_over_restarts(
    database: Database, make_timetable: MakeTimetable, schedule: str, hours: float | None
) -> None:
    clock = Clock()
    runs = JobRuns(database, clock)
    runs.request("refresh", {}, "test")
    runs.finish(claim(runs).id, {"position": 0})
    feedback(database, 0, 1)
    for _ in range(4):  # restarts, each sooner than the schedule
        clock.pass_time(hours=(hours or 1000) / 4.001)
        make_timetable(database, clock=clock, refresh_schedule=schedule).request_due()
    assert len(runs.list()) == 1
    clock.pass_time(hours=0.01)
    timetable = make_timetable(database, clock=clock, refresh_schedule=schedule)
    timetable.request_due()
    timetable.request_due()
    assert [run.params for run in runs.list()][:-1] == ([] if hours is None else [{"why": schedule}])
    [job] = scheduled_jobs(database, [JobPlan("refresh", schedule)], clock())
    assert job.next_run == (None if hours is None else next_run(schedule, clock()))


def test_a_first_refresh_is_due_an_interval_after_the_first_snapshot(
    home_database: Database, make_timetable: MakeTimetable
) -> None:
    clock = Clock()
    runs = JobRuns(home_database, clock)
    SnapshotStore(home_database, clock).publish(a_snapshot(), status="champion", report={}, created_by="seed")
    clock.pass_time(hours=5)
    make_timetable(home_database, clock=clock).request_due()
    assert runs.list() == []
    clock.pass_time(hours=1)
    make_timetable(home_database, clock=clock).request_due()
    assert [r.requested_by for r in runs.list()] == ["timetable"]


def test_a_due_refresh_that_would_read_nothing_new_is_skipped(
    database: Database, make_timetable: MakeTimetable
) -> None:
    clock = Clock()
    runs = JobRuns(database, clock)
    timetable = make_timetable(database, clock=clock)

    def due() -> str:
        clock.pass_time(hours=6)
        timetable.request_due()
        return runs.list()[0].state

    feedback(database, 0, 1)
    clock.now = utc_now()
    assert due() == "queued", "there was none yet"
    runs.finish(claim(runs).id, {"position": 1})
    assert [due(), due()] == ["skipped", "skipped"]
    assert runs.list()[0].reason == "nothing new to learn from"
    assert len(runs.list()) == 3, "a skipped run counts as one"
    feedback(database, 1, 1)
    assert due() == "queued"
    runs.finish(claim(runs).id, {"position": 2})
    clock.pass_time(hours=1)
    with database.session(write=True) as session:
        session.add(a_model(clock()))
        session.commit()
    assert due() == "queued", "the pool has changed"
    runs.finish(claim(runs).id, {"position": 2})
    assert due() == "skipped"


def test_retention_runs_by_its_own_schedule(home_database: Database, make_timetable: MakeTimetable) -> None:
    clock, executed = Clock(), list[Run]()
    timetable = make_timetable(home_database, executed.append, clock=clock, retention_schedule="interval: 1h", **QUIET)
    timetable.request_due()
    clock.pass_time(hours=1)
    timetable.request_due()
    timetable.claim()
    until(lambda: [run.job for run in executed] == ["retention"])


def test_judging_is_asked_for_only_where_the_settings_and_a_kept_answer_call_for_it(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    clock = Clock()
    off = make_timetable(home_database, clock=clock, **QUIET)
    on = make_timetable(home_database, clock=clock, judge_daily_usd=1.0, **QUIET)
    for kept in (False, True):
        if kept:
            record_decision(home_database, "d", {"chef": 1.0})
            writer = GroupCommitter(home_database)
            KeptAnswers(home_database, writer).keep("d", "simmer", shadow=False).result()
            writer.close()
        clock.pass_time(hours=1)
        off.request_due()
        assert runs.list() == []
        on.request_due()
        assert [run.job for run in runs.list()] == ["judge"] * kept


def test_a_model_that_joins_calls_its_onboarding_and_one_that_left_does_not(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    clock = Clock()
    timetable, pool = make_timetable(home_database, clock=clock, **QUIET), ModelPool(home_database, clock)
    timetable.request_onboard()
    assert runs.list() == []
    pool.add(PoolModel(ModelCard("acme/new"), Provider("openai", "http://127.0.0.1:9/v1")))
    timetable.request_onboard()
    timetable.request_onboard()
    assert [run.job for run in runs.list()] == ["onboard"]
    run = runs.claim(["onboard"], "test")
    assert run is not None and JobRuns(home_database, clock).fail(run.id, "no luck")
    timetable.request_onboard()
    assert len(runs.list()) == 1, "not at once after one that failed"
    clock.pass_time(minutes=2)
    pool.remove("acme/new")
    timetable.request_onboard()
    assert len(runs.list()) == 1, "it has left"
    pool.add(PoolModel(ModelCard("acme/new"), Provider("openai", "http://127.0.0.1:9/v1")))
    timetable.request_onboard()
    assert len(runs.list()) == 2


def test_a_new_champion_or_price_lets_models_that_joined_be_looked_at_again(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    clock = Clock()
    timetable, pool = make_timetable(home_database, clock=clock, **QUIET), ModelPool(home_database, clock)
    runs = JobRuns(home_database, clock)
    provider = Provider("openai", "http://127.0.0.1:9/v1")
    pool.sync([PoolModel(ModelCard("acme/old"), provider)])
    pool.add(PoolModel(ModelCard("acme/new"), provider), check=False)

    def looked_at() -> bool:
        clock.pass_time(minutes=2)
        timetable.request_onboard()
        run = runs.claim(["onboard"], "test")
        clock.pass_time(minutes=2)
        return run is not None and runs.finish(run.id, {})

    assert not looked_at(), "the schedule comes first"
    runs.request("onboard", {}, "test")
    assert looked_at() and not looked_at(), "nothing has changed"
    pool.update("acme/old", price_output=3.0)
    assert looked_at() and not looked_at()
    SnapshotStore(home_database, clock).publish(a_snapshot(), status="champion", report={}, created_by="test")
    assert looked_at() and not looked_at()
    join = JoinStore(home_database, clock).get("acme/new")
    assert join is not None and JoinStore(home_database, clock).move(join, "declined", "it is no better")
    assert not looked_at(), "that a model is declined is no reason to look at it"
    pool.remove("acme/new")
    assert not looked_at(), "none that joined is left"


def a_model(now: datetime) -> ModelTable:
    """A model that was added to the pool now."""
    return ModelTable(name="new", base=None, patch={}, added=True, removed=False, revision=9, updated_at=now)


def test_a_changed_pool_file_is_taken_over_and_a_bad_one_is_listed_as_a_failed_run(
    home_database: Database,
    runs: JobRuns,
    make_timetable: MakeTimetable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "pool.yaml"
    line = "  - {name: NAME, provider: {kind: embedded}, price: {input: 0, output: 0}, context: 2048}\n"
    start = "version: 1\nmodels:\n" + line.replace("NAME", "v/old")
    path.write_text(start)
    pool = ModelPool(home_database)
    pool.sync(PoolFile.load(path))
    timetable = make_timetable(home_database, lambda run: None, pool=path, **QUIET)
    assert runs.list() == []
    path.write_text(start + line.replace("NAME", "v/new"))
    for _ in range(3):
        timetable.read_pool_file()
    [run] = runs.list()
    assert (run.job, run.state, run.result) == ("pool file", "done", {"joined": ["v/new"], "left": [], "changed": []})
    assert [model.card.name for model in pool.list()] == ["v/new", "v/old"]
    path.write_text(start + "  - {name: v/other}\n")
    with caplog.at_level(logging.ERROR, "thalweg.jobs"):
        for _ in range(3):
            timetable.read_pool_file()
    run = runs.list()[0]
    assert run.state == "failed" and run.reason is not None and "line 4: models[1].provider is missing" in run.reason
    assert [r.message for r in caplog.records] == [f"the pool file has changed and cannot be used: {run.reason}"]
    assert [model.card.name for model in pool.list()] == ["v/new", "v/old"]


def test_a_pool_file_is_not_watched_where_the_settings_say_so(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable, tmp_path: Path
) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("version: 1\nmodels: []\n")
    timetable = make_timetable(home_database, lambda run: None, pool=path, pool_watch=False, **QUIET)
    path.write_text("none")
    for _ in range(3):
        timetable.read_pool_file()
    assert runs.list() == []


def test_enough_feedback_calls_an_early_refresh_once(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    timetable = make_timetable(home_database, refresh_min_feedback=5, refresh_cooldown_s=0)
    feedback(home_database, 0, 4)
    timetable.request_early()
    assert runs.list() == []
    feedback(home_database, 4, 1)
    timetable.request_early()
    run = claim(runs)
    assert run.params == {"why": "5 new feedback rows, beside 0 scored prompts known before"}
    timetable.request_early()
    assert len(runs.list()) == 1, "not while one runs"
    runs.finish(run.id, {"position": 5})
    timetable.request_early()
    assert len(runs.list()) == 1, "that feedback has been read"
    feedback(home_database, 5, 5)
    make_timetable(home_database, refresh_min_feedback=5, refresh_cooldown_s=3600).request_early()
    assert len(runs.list()) == 1, "not before the cooldown is over"
    timetable.request_early()
    assert len(runs.list()) == 2


def test_after_a_failed_refresh_the_next_one_waits_for_the_interval(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable
) -> None:
    feedback(home_database, 0, 5)
    timetable = make_timetable(home_database, refresh_min_feedback=5, refresh_cooldown_s=0)
    timetable.request_early()
    runs.fail(claim(runs).id, "no luck")
    timetable.request_early()
    assert len(runs.list()) == 1


@pytest.mark.parametrize("readable", [True, False])
def test_where_an_older_thalweg_published_the_champion_a_refresh_is_requested_at_the_start(
    home_database: Database,
    runs: JobRuns,
    make_timetable: MakeTimetable,
    caplog: pytest.LogCaptureFixture,
    readable: bool,
) -> None:
    publish(home_database, misled=False)
    if not readable:
        age_snapshots(home_database)
    executed: list[Run] = []
    with caplog.at_level(logging.WARNING, logger="thalweg.jobs"):
        make_timetable(home_database, executed.append, start=True, **QUIET)
        if readable:
            time.sleep(1.5)
        else:
            until(lambda: len(executed) == 1 and runs.get(executed[0].id).state == "failed")
    assert [run.params for run in executed] == (
        [] if readable else [{"why": "snapshot 1 was made by another version of Thalweg"}]
    )
    assert [line for line in caplog.messages if "cannot be read" in line] == [
        f"{run.params['why']} and cannot be read; a refresh is requested" for run in executed
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidInput("the disk is full"), "the disk is full"),
        (RuntimeError("oops"), "RuntimeError: oops"),
        (None, "without"),
    ],
)
def test_a_run_that_ends_badly_is_failed_with_its_reason(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable, error: Exception | None, reason: str
) -> None:
    def execute(run: Run) -> None:
        if error is not None:
            raise error

    make_timetable(home_database, execute, start=True, **QUIET)
    run_id = runs.request("refresh", {}, "test")
    until(lambda: runs.get(run_id).state == "failed")
    assert reason in str(runs.get(run_id).reason)
    assert SnapshotStore(home_database).list() == []


def test_a_timetable_that_no_longer_looks_for_runs_is_not_healthy(
    home_database: Database, runs: JobRuns, make_timetable: MakeTimetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(run: Run) -> None:
        runs.finish(run.id, {"position": 0})

    timetable = make_timetable(home_database, execute, start=True, **QUIET)
    first = runs.request("refresh", {}, "test")
    until(lambda: runs.get(first).state == "done")
    timetable.check_health()
    monkeypatch.setattr("jobs.schedule.timetable.STUCK_S", -1.0)
    with pytest.raises(RuntimeError, match="has not looked for runs"):
        timetable.check_health()
