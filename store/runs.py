"""Job runs: the queue of jobs in SQL.

Unique indexes allow at most one queued and one running run of a job, however many processes request and work. A run whose
worker has died stops its heartbeat, and `JobRuns.reap` fails it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import aliased

from agent.errors import InvalidInput
from store.columns import Clock, utc_now
from store.database import Database
from store.tables import JobRunTable

State = Literal["queued", "running", "done", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job: ``result`` once it is done, ``reason`` where it failed, or was skipped as there was nothing to do."""

    id: int
    job: str
    params: Mapping[str, Any]
    state: State
    requested_by: str
    requested_at: datetime
    worker: str | None
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    result: Mapping[str, Any] | None
    reason: str | None


class JobRuns:
    """Requests, claims, ends and lists runs."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def request(self, job: str, params: Mapping[str, Any], by: str) -> int:
        """Queue a run and return its id; where the job is queued already, the id of that run."""
        with self._database.session(lock="jobs") as session:
            queued = select(JobRunTable.id).where(JobRunTable.job == job, JobRunTable.state == "queued")
            if (waiting := session.scalar(queued)) is not None:
                return waiting
            row = JobRunTable(job=job, params=params, state="queued", requested_by=by, requested_at=self._clock())
            session.add(row)
            session.commit()
            return row.id

    def skip(self, job: str, params: Mapping[str, Any], by: str, reason: str) -> int:
        """Record that a due run has nothing to do, so that the next one counts from here; returns its id."""
        return self._record("skipped", job, params, by, reason=reason)

    def did(self, job: str, params: Mapping[str, Any], by: str, result: Mapping[str, Any] | str) -> int:
        """Record what was done at once, without a run in the queue: its result, or in words why it failed; returns its id."""
        if isinstance(result, str):
            return self._record("failed", job, params, by, reason=result)
        return self._record("done", job, params, by, result=result)

    def _record(self, state: State, job: str, params: Mapping[str, Any], by: str, **values: Any) -> int:
        now = self._clock()
        row = JobRunTable(
            job=job, params=params, state=state, requested_by=by, requested_at=now, finished_at=now, **values
        )
        with self._database.session(lock="jobs") as session:
            session.add(row)
            session.commit()
            return row.id

    def claim(self, jobs: Sequence[str], worker: str) -> Run | None:
        """Take the oldest queued run of one of ``jobs`` that does not run already; None where there is none."""
        other = aliased(JobRunTable)
        running = select(other.id).where(other.job == JobRunTable.job, other.state == "running").exists()
        free = (
            select(JobRunTable)
            .where(JobRunTable.state == "queued", JobRunTable.job.in_(jobs), ~running)
            .order_by(JobRunTable.id)
            .limit(1)
        )
        with self._database.session() as session:
            if session.scalar(free) is None:  # the usual answer, found without the write lock
                return None
        with self._database.session(lock="jobs") as session:
            if (row := session.scalar(free)) is None:
                return None
            row.state, row.worker = "running", worker
            row.started_at = row.heartbeat_at = self._clock()
            session.commit()
            return _run(row)

    def heartbeat(self, run_id: int) -> bool:
        """Note that a run is worked on. False where it is not running any more (it was reaped): stop working on it."""
        return self._change(run_id, heartbeat_at=self._clock())

    def finish(self, run_id: int, result: Mapping[str, Any]) -> bool:
        """Set a running run to done; False, and no change, where it is not running."""
        return self._change(run_id, state="done", finished_at=self._clock(), result=result)

    def fail(self, run_id: int, reason: str) -> bool:
        """Set a running run to failed; False, and no change, where it is not running."""
        return self._change(run_id, state="failed", finished_at=self._clock(), reason=reason)

    def reap(self, stale_after_s: float) -> list[int]:
        """Fail every running run whose last heartbeat is older than this, and return their ids."""
        stale = JobRunTable.heartbeat_at < self._clock() - timedelta(seconds=stale_after_s)
        dead = (
            update(JobRunTable)
            .where(JobRunTable.state == "running", stale)
            .values(state="failed", finished_at=self._clock(), reason="worker died")
            .returning(JobRunTable.id)
        )
        with self._database.session(write=True) as session:
            ids = sorted(session.scalars(dead))
            session.commit()
        return ids

    def list(self, limit: int = 50) -> list[Run]:
        """The latest runs, newest first."""
        with self._database.session() as session:
            return [_run(row) for row in session.scalars(_NEWEST.limit(limit))]

    def get(self, run_id: int) -> Run:
        """One run.

        Raises
        ------
        InvalidInput
            Where there is none of that id.
        """
        with self._database.session() as session:
            row = session.get(JobRunTable, run_id)
        if row is None:
            raise InvalidInput(f"there is no job run {run_id}", param="run_id")
        return _run(row)

    def last(self, job: str, state: State | None = None) -> Run | None:
        """A job's latest run, of one state where it is named; not one that only counted what it would do."""
        only_counted = JobRunTable.params["dry_run"].as_boolean().is_not_distinct_from(True)
        query = _NEWEST.where(JobRunTable.job == job, ~only_counted)
        if state is not None:
            query = query.where(JobRunTable.state == state)
        with self._database.session() as session:
            row = session.scalar(query.limit(1))
        return None if row is None else _run(row)

    def _change(self, run_id: int, **values: Any) -> bool:
        change = update(JobRunTable).where(JobRunTable.id == run_id, JobRunTable.state == "running").values(**values)
        with self._database.session(write=True) as session:
            changed = session.execute(change.returning(JobRunTable.id)).first() is not None
            session.commit()
        return changed


_NEWEST = select(JobRunTable).order_by(JobRunTable.id.desc())


def _run(row: JobRunTable) -> Run:
    return Run(**{name: getattr(row, name) for name in Run.__dataclass_fields__})
