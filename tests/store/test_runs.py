"""The queue of jobs: of each job at most one run is queued and one running."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from agent.errors import InvalidInput
from store.columns import utc_now
from store.database import Database
from store.runs import JobRuns
from store.tables import JobRunTable
from tests.store.child import Child, claim, start_together


@pytest.fixture
def runs(database: Database) -> JobRuns:
    """An empty queue."""
    return JobRuns(database)


def test_a_queued_job_is_not_queued_again(runs: JobRuns) -> None:
    first = runs.request("refresh", {"seed": 1}, "ann")
    assert runs.request("refresh", {"seed": 2}, "bob") == first
    assert runs.request("probe", {}, "bob") != first
    assert runs.get(first).params == {"seed": 1} and runs.get(first).requested_by == "ann"


def test_the_oldest_run_is_claimed_and_never_two_of_a_job(runs: JobRuns) -> None:
    first = runs.request("refresh", {}, "ann")
    claimed = runs.claim(["refresh", "probe"], "w1")
    assert claimed is not None and (claimed.id, claimed.state, claimed.worker) == (first, "running", "w1")
    second = runs.request("refresh", {}, "ann")
    assert second != first and runs.claim(["refresh"], "w2") is None
    probe = runs.request("probe", {}, "ann")
    other = runs.claim(["refresh", "probe"], "w2")
    assert other is not None and other.id == probe
    assert runs.finish(first, {"promoted": True})
    done = runs.get(first)
    assert (done.state, done.result) == ("done", {"promoted": True}) and done.finished_at is not None
    later = runs.claim(["refresh"], "w2")
    assert later is not None and later.id == second
    assert runs.claim(["judge"], "w2") is None


def test_of_two_jobs_the_one_that_waits_longer_is_claimed_first(runs: JobRuns) -> None:
    waiting = [runs.request(job, {}, "ann") for job in ("refresh", "probe")]
    claims = [runs.claim(["probe", "refresh"], "w") for _ in range(2)]
    assert [run.id for run in claims if run is not None] == waiting


def test_a_run_is_closed_once(runs: JobRuns) -> None:
    run = runs.request("refresh", {}, "ann")
    assert not runs.finish(run, {})
    runs.claim(["refresh"], "w")
    assert runs.fail(run, "no \x00 data") and not runs.finish(run, {}) and not runs.heartbeat(run)
    got = runs.get(run)
    assert (got.state, got.reason, got.result) == ("failed", "no \ufffd data", None)
    assert got.started_at is not None and got.finished_at is not None and got.started_at <= got.finished_at


def test_a_worker_that_died_is_reaped_and_its_late_word_ignored(runs: JobRuns, database: Database) -> None:
    dead, alive = runs.request("refresh", {}, "ann"), runs.request("probe", {}, "ann")
    for job in ("refresh", "probe"):
        runs.claim([job], "w")
    with database.session(write=True) as session:
        session.execute(update(JobRunTable).values(heartbeat_at=utc_now() - timedelta(hours=1)))
        session.commit()
    assert runs.heartbeat(alive)
    assert runs.reap(600) == [dead] and runs.reap(600) == []
    assert (runs.get(dead).state, runs.get(dead).reason) == ("failed", "worker died")
    assert runs.get(dead).finished_at is not None
    assert not runs.heartbeat(dead) and not runs.finish(dead, {}) and runs.get(dead).state == "failed"
    runs.request("refresh", {}, "ann")
    assert runs.claim(["refresh"], "w2") is not None


def test_history_is_newest_first(runs: JobRuns) -> None:
    assert runs.last("refresh") is None
    ids = []
    for works in (True, False, True):
        ids.append(runs.request("refresh", {}, "ann"))
        runs.claim(["refresh"], "w")
        assert runs.finish(ids[-1], {"n": 1}) if works else runs.fail(ids[-1], "why")
    waiting = runs.request("refresh", {}, "ann")
    assert [run.id for run in runs.list()] == [waiting, *reversed(ids)]
    assert [run.id for run in runs.list(1)] == [waiting]
    for state, expected in (("done", ids[2]), ("failed", ids[1]), ("queued", waiting), (None, waiting)):
        last = runs.last("refresh", state)  # type: ignore[arg-type]
        assert last is not None and last.id == expected
    with pytest.raises(InvalidInput, match="no job run 999"):
        runs.get(999)


def test_claims_are_never_doubled_across_processes(runs: JobRuns, database_url: str) -> None:
    jobs = ["refresh", "probe", "judge"]
    for job in jobs:
        runs.request(job, {}, "test")
    children = [Child(claim, database_url, f"w{i}", jobs, 60) for i in range(4)]
    start_together(children)
    claims = [one for child in children for one in child.receive()]
    for child in children:
        child.join()
    ids = [run for run, *_ in claims]
    assert len(ids) == len(set(ids)) >= 60
    for job in jobs:
        spans = sorted((began, ended) for _, name, began, ended in claims if name == job)
        assert all(ended <= began for (_, ended), (began, _) in zip(spans, spans[1:], strict=False))
    assert all(run.state == "done" for run in runs.list(1000))


def test_a_run_that_only_counted_is_not_a_jobs_last(runs: JobRuns) -> None:
    """Or it would put off the next run by the schedule."""
    assert runs.last("retention") is None
    done = runs.request("retention", {}, "timetable")
    runs.claim(["retention"], "w")
    runs.finish(done, {})
    runs.request("retention", {"dry_run": True}, "command line")
    last = runs.last("retention")
    assert last is not None and last.id == done
