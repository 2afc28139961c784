"""The timetable: asks for jobs when they are due, executes queued runs one at a time, and judges the running trial."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from agent.errors import BadDataFile, ThalwegError
from agent.evaluation.refresh_rule import RefreshRuleConfig
from jobs.context import PACKAGED_POOL
from jobs.monitor.trials import TrialMonitor
from jobs.schedule.worker import STALE_AFTER_S, reason
from jobs.settings import JobSettings
from store.columns import Clock, utc_now
from store.database import Database
from store.feedback import FeedbackLog
from store.joins import ONBOARDING, REVIEWED, JoinStore
from store.kept_answers import KeptAnswers
from store.pool.models import ModelPool
from store.pool.watch import PoolFileWatcher
from store.runs import JobRuns, Run
from store.schedule import JobPlan, scheduled_jobs
from store.signals import anything_new, last_change, refresh_reason_now
from store.snapshots import SnapshotStore
from store.trials import TrialStore
from store.writer import GroupCommitter

POOL_FILE = "pool file"
"""The job as which readings of a changed pool file are listed; they are done at once, and nobody asks for them."""

JOBS = ("judge", "onboard", "refresh", "retention")
ALSO = {
    "onboard": ("a model that joins the pool", "a new champion, or a change of the pool, where models have joined"),
    "refresh": (
        "feedback that grows by {growth:.0%}, and by {least} rows at least",
        "a model that changed silently, or is new, and was scored",
        "prompts that lie close together, far from every task",
    ),
}
"""What else calls a job, in words."""

CLAIM_PERIOD_S = 1.0
CHECK_PERIOD_S = 5.0
REAP_PERIOD_S = 15.0
RETRY_AFTER_S = 60.0
"""Seconds after a failed onboarding before another is requested."""

_CHANGED = {"why": "the file has changed"}

STUCK_S = 60.0
"""Seconds without a look for runs after which the timetable is taken for stuck."""

_log = logging.getLogger("thalweg.jobs")


def plans(settings: JobSettings) -> tuple[JobPlan, ...]:
    """The jobs, each with its schedule and what else calls it."""
    early = settings.refresh_min_feedback > 0
    words = [
        line.format(growth=settings.refresh_growth, least=settings.refresh_min_feedback) for line in ALSO["refresh"]
    ]
    return (
        JobPlan("judge", settings.judge_schedule if settings.keeps_answers else "off"),
        JobPlan("onboard", settings.join_review_schedule, ALSO["onboard"]),
        JobPlan("refresh", settings.refresh_schedule, tuple(words) if early else ()),
        JobPlan("retention", settings.retention_schedule),
    )


class Timetable:
    """Requests jobs when they are due and executes queued runs, whoever requested them.

    Everything goes through `JobRuns`, so several timetables, a server and a command line may share one database: no job
    runs twice at once.

    Parameters
    ----------
    database
        Where runs, feedback and snapshots are.
    settings
        When.
    execute
        Does a claimed run and closes it, as `run_job`; the composition root may send it to another process. Where it
        raises or returns without having closed the run, the timetable closes it as failed.
    clock
        Tells the time by which jobs are due; a simulation passes its own, and calls what `start` would call by itself.
    """

    def __init__(
        self, database: Database, settings: JobSettings, execute: Callable[[Run], None], clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._settings = settings
        self._execute = execute
        self._clock = clock
        self._plans = plans(settings)
        self._runs = JobRuns(database, clock)
        self._joins = JoinStore(database, clock)
        self._kept = KeptAnswers(database)
        self._snapshots = SnapshotStore(database, clock)
        self._writer = GroupCommitter(database)
        self._feedback = FeedbackLog(database, self._writer, clock)
        trials = TrialStore(database)
        self._trials = TrialMonitor(self._snapshots, trials, self._feedback, settings.hold_back_plan)
        self._pool_file = None
        if settings.pool_watch:
            self._pool_file = PoolFileWatcher(settings.pool or PACKAGED_POOL, ModelPool(database, clock))
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._executing: Future[None] | None = None
        self._made_at = clock()
        self._claimed_at = time.monotonic()
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self) -> None:
        """Start; schedules count from the last run of a job, not from the start of this process."""
        self._scheduler.add_job(_logging_errors(self.request_upgrade))
        self._every(CLAIM_PERIOD_S, self.claim)
        self._every(REAP_PERIOD_S, self.reap)
        self._every(CLAIM_PERIOD_S, self.read_pool_file)
        self._every(CHECK_PERIOD_S, self.judge)
        self._every(CHECK_PERIOD_S, self.request_due)
        self._every(CHECK_PERIOD_S, self.request_early)
        self._every(CHECK_PERIOD_S, self.request_onboard)
        self._claimed_at = time.monotonic()
        self._scheduler.start()

    def stop(self) -> None:
        """Stop; a run that is executed in another process goes on."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._writer.close()

    def check_health(self) -> None:
        """Raise `RuntimeError` where it no longer looks for runs; a store that is away is no reason."""
        still = time.monotonic() - self._claimed_at
        if self._scheduler.running and still > STUCK_S:
            raise RuntimeError(f"the timetable has not looked for runs for {still:.0f} s")

    def request_upgrade(self) -> None:
        """Request a refresh where the champion is of a format that this version of Thalweg does not read."""
        champion = self._snapshots.champion()
        if champion is not None and not champion.readable:
            why = f"snapshot {champion.version} was made by another version of Thalweg"
            _log.warning("%s and cannot be read; a refresh is requested", why)
            self._runs.request("refresh", {"why": why}, "timetable")

    def read_pool_file(self) -> None:
        """Take over the pool file where it has changed; one with a mistake changes nothing."""
        found = None if self._pool_file is None else self._pool_file.look()
        if isinstance(found, BadDataFile):
            _log.error("the pool file has changed and cannot be used: %s", found.message)
            self._runs.did(POOL_FILE, _CHANGED, "timetable", found.message)
        elif found is not None:
            _log.info("the pool file has changed: %s", found)
            self._runs.did(POOL_FILE, _CHANGED, "timetable", asdict(found))

    def judge(self) -> None:
        """Look at the trial that runs."""
        self._trials.check(self._clock())

    def request_due(self) -> None:
        """Request the jobs that are due by their schedules. A refresh that would read nothing new is recorded as such."""
        now = self._clock()
        for job in scheduled_jobs(self._database, self._plans, self._made_at):
            if job.next_run is None or job.next_run > now or job.last_state in ("queued", "running"):
                continue
            if job.job == "judge" and not self._kept.any():
                continue
            if job.job == "onboard" and not self._joins.current(*REVIEWED):
                continue
            if job.job == "refresh" and not anything_new(self._database, self._feedback, self._last_refresh()):
                self._runs.skip("refresh", {"why": job.schedule}, "timetable", "nothing new to learn from")
            else:
                self._runs.request(job.job, {"why": job.schedule}, "timetable")

    def request_early(self) -> None:
        """Request a refresh where `refresh_reason` gives a reason, but not after one that failed."""
        if self._settings.refresh_min_feedback == 0:
            return
        newest = self._runs.last("refresh")
        if newest is not None and newest.state not in ("done", "skipped"):
            return
        last = self._last_refresh()
        if last is not None:
            assert last.finished_at is not None, "a run that is done has ended"
            if self._clock() - last.finished_at < timedelta(seconds=self._settings.refresh_cooldown_s):
                return
        rule = RefreshRuleConfig(growth=self._settings.refresh_growth, least=self._settings.refresh_min_feedback)
        if why := refresh_reason_now(self._database, self._snapshots, self._feedback, last, rule):
            self._runs.request("refresh", {"why": why}, "timetable")

    def request_onboard(self) -> None:
        """Request that models that wait for it are brought further, and that those that joined are looked at again where the
        champion or the pool has changed; but no sooner than a minute after a run that failed."""
        newest = self._runs.last("onboard")
        if self._joins.current(*ONBOARDING):
            why = "a model joins the pool"
        elif newest is not None and newest.started_at is not None and self._joins.current(*REVIEWED):
            changed = last_change(self._database)
            if changed is None or changed <= newest.started_at:
                return
            why = "the champion or the pool has changed since the models that joined were looked at"
        else:
            return
        if newest is not None:
            if newest.state in ("queued", "running"):
                return
            ended = newest.finished_at
            if newest.state == "failed" and ended and self._clock() - ended < timedelta(seconds=RETRY_AFTER_S):
                return
        self._runs.request("onboard", {"why": why}, "timetable")

    def _last_refresh(self) -> Run | None:
        return self._runs.last("refresh", "done")

    def claim(self) -> Future[None] | None:
        """Execute a queued run, if there is one and none is being executed here; resolves when it is closed."""
        self._claimed_at = time.monotonic()
        if self._executing is not None and not self._executing.done():
            return None
        run = self._runs.claim(JOBS, self._worker)
        if run is None:
            return None
        self._executing = self._executor.submit(self._work, run)
        return self._executing

    def reap(self) -> None:
        """Close the runs of workers that died."""
        for run_id in self._runs.reap(STALE_AFTER_S):
            _log.error("run %d failed: its worker died", run_id)

    def _work(self, run: Run) -> None:
        try:
            self._execute(run)
            failure = "the worker ended without closing the run"
        except BaseException as error:  # also what a remote worker died of
            failure = reason(error)
            _log.error("run %d (%s) failed: %s", run.id, run.job, failure)
        self._runs.fail(run.id, failure)  # changes nothing where the run is closed

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        now = utc_now()
        self._scheduler.add_job(_logging_errors(work), "interval", seconds=seconds, next_run_time=now)


def _logging_errors(work: Callable[[], object]) -> Callable[[], None]:
    """``work``, logging a `ThalwegError` such as an unavailable store: the next tick tries again."""

    def tick() -> None:
        try:
            work()
        except ThalwegError as error:
            _log.warning("the timetable waits: %s", error.message)

    return tick
