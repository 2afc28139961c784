"""Runs are asked for when they are due, done one at a time, and closed honestly however they end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import InvalidInput
from agent.types import Candidate, Decision, ModelCard, TaskAssignment, Turn
from jobs.refresh.seed import ensure_champion
from jobs.schedule.timetable import Timetable
from jobs.schedule.worker import Heart, RunLost, run_job
from jobs.settings import JobSettings
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.encoders.cache import CachedEncoder
from store.feedback import FeedbackEvent, FeedbackLog
from store.runs import JobRuns, Run
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import WordEncoder

ROOT = Path(__file__).parents[3]


@contextmanager
def a_timetable(database: Database, settings: JobSettings, execute: Callable[[Run], None]) -> Iterator[Timetable]:
    timetable = Timetable(database, settings, execute)
    timetable.start()
    try:
        yield timetable
    finally:
        timetable.stop()


def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def give_feedback(database: Database, count: int, first: int = 0) -> None:
    writer = GroupCommitter(database)
    encoded = WordEncoder().encode([(Turn("user", "simmer"),)])[0]
    candidate = Candidate("a", 0.5, 0.1, 0.0, 0.5, 1.0)
    decision = Decision("a", (candidate,), TaskAssignment(0, "t", 1.0), (), 1, 0, encoded, False, "why")
    record = DecisionRecord(
        id="d", created_at=datetime.now(UTC), decision=decision, encoder="words/v1", prompt="simmer"
    )
    DecisionLog(database, writer).append(record).result()
    events = [FeedbackEvent("d", 1.0, "user", str(first + i)) for i in range(count)]
    FeedbackLog(database, writer).append(events).result()
    writer.close()


def test_a_queued_run_is_executed_and_two_never_at_once(world: Database, settings: JobSettings) -> None:
    runs, working, most = JobRuns(world), threading.Semaphore(0), []
    running: list[int] = []

    def execute(run: Run) -> None:
        running.append(run.id)
        most.append(len(running))
        working.acquire(timeout=10)
        running.remove(run.id)
        runs.finish(run.id, {"position": 0})

    quiet = settings.model_copy(update={"refresh_interval_s": 0, "refresh_min_feedback": 0})
    with a_timetable(world, quiet, execute):
        first = runs.request("refresh", {}, "test")
        until(lambda: runs.get(first).state == "running")
        second = runs.request("refresh", {}, "test")
        time.sleep(1.5)
        assert runs.get(second).state == "queued"
        working.release()
        working.release()
        until(lambda: runs.get(second).state == "done")
    assert most == [1, 1]


def test_a_refresh_is_due_an_interval_after_the_last_one(world: Database, settings: JobSettings) -> None:
    timetable = Timetable(world, settings.model_copy(update={"refresh_interval_s": 0.2}), lambda run: None)
    timetable._made = datetime.now(UTC)
    timetable.request_due()
    assert JobRuns(world).list() == []
    time.sleep(0.3)
    timetable.request_due()
    timetable.request_due()
    assert [r.requested_by for r in JobRuns(world).list()] == ["timetable"]


def test_enough_feedback_calls_an_early_refresh_once(world: Database, settings: JobSettings) -> None:
    runs = JobRuns(world)
    timetable = Timetable(
        world, settings.model_copy(update={"refresh_min_feedback": 5, "refresh_cooldown_s": 0}), lambda run: None
    )
    give_feedback(world, 4)
    timetable.request_early()
    assert runs.list() == []
    give_feedback(world, 1, 4)
    timetable.request_early()
    run = runs.claim(["refresh"], "test")
    assert run is not None
    assert run.params == {"why": "5 new feedback rows"}
    timetable.request_early()
    assert len(runs.list()) == 1, "not while one runs"
    runs.finish(run.id, {"position": 5})
    timetable.request_early()
    assert len(runs.list()) == 1, "that feedback has been read"
    give_feedback(world, 5, 5)
    timetable.request_early()
    assert len(runs.list()) == 2


def test_a_failed_refresh_is_left_to_the_interval(world: Database, settings: JobSettings) -> None:
    runs = JobRuns(world)
    give_feedback(world, 5)
    timetable = Timetable(
        world, settings.model_copy(update={"refresh_min_feedback": 5, "refresh_cooldown_s": 0}), lambda run: None
    )
    timetable.request_early()
    run = runs.claim(["refresh"], "test")
    assert run is not None
    runs.fail(run.id, "no luck")
    timetable.request_early()
    assert len(runs.list()) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidInput("the disk is full"), "the disk is full"),
        (RuntimeError("oops"), "RuntimeError: oops"),
        (None, "without"),
    ],
)
def test_a_run_that_ends_badly_is_failed_with_its_reason(
    world: Database, settings: JobSettings, error: Exception | None, told: str
) -> None:
    runs = JobRuns(world)

    def execute(run: Run) -> None:
        if error is not None:
            raise error

    with a_timetable(world, settings.model_copy(update={"refresh_interval_s": 0}), execute):
        run_id = runs.request("refresh", {}, "test")
        until(lambda: runs.get(run_id).state == "failed")
    assert told in str(runs.get(run_id).reason)


def test_a_worker_killed_mid_run_leaves_the_champion_and_a_failed_run(database_url: str, settings: JobSettings) -> None:
    database = Database.open(database_url)
    champion = ensure_champion(database, CachedEncoder(WordEncoder(), settings.cache), [ModelCard("a"), ModelCard("b")])
    runs = JobRuns(database)

    def execute(run: Run) -> None:
        raise AssertionError("the child has claimed it")

    run_id = runs.request("refresh", {}, "test")
    command = [sys.executable, "-m", "tests.jobs.child", database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == str(run_id)
        beat = runs.get(run_id).heartbeat_at
        until(lambda: runs.get(run_id).heartbeat_at != beat)
        child.kill()
    assert runs.get(run_id).state == "running", "nobody has noticed yet"
    time.sleep(0.3)
    assert runs.reap(0.2) == [run_id]
    assert (runs.get(run_id).state, runs.get(run_id).reason) == ("failed", "worker died")
    snapshots = SnapshotStore(database)
    assert snapshots.champion_version() == champion.version
    assert snapshots.load(champion.version).models == ("a", "b")
    database.close()


def test_run_job_closes_the_run_and_raises_what_went_wrong(
    world: Database, settings: JobSettings, word_encoder: WordEncoder
) -> None:
    runs = JobRuns(world)
    unknown = runs.request("paint", {}, "test")
    run = runs.claim(["paint"], "test")
    assert run is not None
    with pytest.raises(InvalidInput, match="no job 'paint'"):
        run_job(run, settings)
    assert runs.get(unknown).state == "failed"
    assert "no job 'paint'" in str(runs.get(unknown).reason)

    runs.request("refresh", {"seed": 3}, "test")
    run = runs.claim(["refresh"], "test")
    assert run is not None
    run_job(run, settings)
    done = runs.get(run.id)
    assert done.state == "done"
    assert done.result is not None
    assert done.result["version"] == SnapshotStore(world).champion_version()


def test_a_run_that_was_taken_for_dead_publishes_nothing(world: Database) -> None:
    runs = JobRuns(world)
    runs.request("refresh", {}, "test")
    run = runs.claim(["refresh"], "test")
    assert run is not None
    with Heart(runs, run.id, period_s=0.05) as heart:
        told = heart.watch(None)
        told("heads", 0.5)
        runs.fail(run.id, "worker died")

        def lost() -> bool:
            try:
                told("heads", 0.6)
            except RunLost:
                return True
            return False

        until(lost)
