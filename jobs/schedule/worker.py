"""Running a claimed job: a heartbeat while it works, then one entry in the run queue, done or failed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from agent.errors import InvalidInput, StoreUnavailable, ThalwegError
from agent.evaluation.challenger import Progress
from jobs.context import JobContext
from jobs.settings import JobSettings
from store.retention import Retention
from store.runs import JobRuns, Run

HEARTBEAT_S = 5.0
STALE_AFTER_S = 60.0
"""A running job without a heartbeat for this long counts as dead."""


class RunLost(ThalwegError):
    """The run was closed as dead while it worked; nothing was published."""

    code = "run_lost"


def run_job(run: Run, settings: JobSettings, progress: Progress | None = None) -> None:
    """Do a claimed run and close it: done with its result, or failed with the reason, which is also raised.

    Parameters
    ----------
    run
        As `JobRuns.claim` returned it.
    progress
        Called with (stage, share done).
    """
    with JobContext(settings) as ctx:
        run_job_in(ctx, run, progress)


def run_job_in(ctx: JobContext, run: Run, progress: Progress | None = None) -> None:
    """The same with an open context: its database, encoder and clock."""
    runs = JobRuns(ctx.database, ctx.clock)
    with Heartbeat(runs, run.id) as heartbeat:
        try:
            result = _perform(run, ctx, heartbeat.checked(progress))
        except BaseException as error:
            runs.fail(run.id, reason(error))
            raise
        runs.finish(run.id, result)


def reason(error: BaseException) -> str:
    """An error's message; with its type where it is not one of Thalweg's own."""
    return error.message if isinstance(error, ThalwegError) else f"{type(error).__name__}: {error}".removesuffix(": ")


def _perform(run: Run, ctx: JobContext, progress: Progress) -> Mapping[str, Any]:
    if run.job == "retention":
        dry_run = bool(run.params.get("dry_run"))
        kept = Retention(ctx.database, ctx.settings.retention, ctx.clock(), dry_run=dry_run, progress=progress)
        return asdict(kept.run())
    if run.job == "onboard":
        from jobs.onboard.run import onboard

        return onboard(ctx, progress)
    if run.job == "judge":
        from jobs.judge.live import judge_answers

        return judge_answers(ctx, progress)
    if run.job != "refresh":
        jobs = "'judge', 'onboard', 'refresh' and 'retention'"
        raise InvalidInput(f"there is no job {run.job!r}; there are {jobs}", param="job")
    from jobs.refresh.run import refresh

    done = refresh(
        ctx.database,
        ctx.settings,
        encoder=ctx.encoder,
        seed=run.params.get("seed"),
        progress=progress,
        clock=ctx.clock,
    )
    return {
        "version": done.version,
        "promoted": done.promoted,
        "reason": done.reason,
        "position": done.report["position"],
        "n_scored": done.report["n_scored"],
    }


class Heartbeat:
    """Writes a run's heartbeat from a thread of its own while the ``with`` block lasts."""

    def __init__(self, runs: JobRuns, run_id: int, period_s: float = HEARTBEAT_S) -> None:
        self._runs = runs
        self._id = run_id
        self._period_s = period_s
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{run_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def checked(self, progress: Progress | None) -> Progress:
        """``progress``, but raising `RunLost` once the run has been closed as dead: it must not publish then."""

        def report(stage: str, share: float) -> None:
            if self._lost:
                raise RunLost(f"run {self._id} was closed as dead; another one may be running, so this one stops")
            if progress is not None:
                progress(stage, share)

        return report

    def _beat(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._lost = not self._runs.heartbeat(self._id)
            except StoreUnavailable:
                continue  # the next beat may get through; `JobRuns.reap` decides if none does
