"""Running a claimed job: heartbeat, work, and one honest ending."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from agent.errors import InvalidInput, StoreUnavailable, ThalwegError
from jobs.context import Context
from jobs.settings import JobSettings
from store.runs import JobRuns, Run

HEARTBEAT_S = 5.0
STALE_AFTER_S = 60.0
"""A running job without a heartbeat for this long is taken for dead."""

Progress = Callable[[str, float], None]


class RunLost(ThalwegError):
    """The run was taken for dead while it worked; nothing was published."""

    code = "run_lost"


def run_job(run: Run, settings: JobSettings, progress: Progress | None = None) -> None:
    """Do a claimed run and close it: done with its result, or failed with the reason, which is raised too.

    Parameters
    ----------
    run
        As `JobRuns.claim` gave it.
    settings
        Where, and how.
    progress
        Told (stage, share done).
    """
    with Context(settings) as context:
        runs = JobRuns(context.database)
        with Heart(runs, run.id) as heart:
            try:
                result = _perform(run, context, heart.watch(progress))
            except BaseException as error:
                runs.fail(run.id, reason(error))
                raise
            runs.finish(run.id, result)


def reason(error: BaseException) -> str:
    """An error as a person reads it."""
    return error.message if isinstance(error, ThalwegError) else f"{type(error).__name__}: {error}".removesuffix(": ")


def _perform(run: Run, context: Context, progress: Progress) -> Mapping[str, Any]:
    if run.job != "refresh":
        raise InvalidInput(f"there is no job {run.job!r}; there is 'refresh'", param="job")
    from jobs.refresh.run import refresh

    context.sync_pool()
    result = refresh(
        context.database, context.settings, encoder=context.encoder, seed=run.params.get("seed"), progress=progress
    )
    return {
        "version": result.version,
        "promoted": result.promoted,
        "reason": result.reason,
        "position": result.report["position"],
    }


class Heart:
    """Beats for a run from a thread of its own while the ``with`` block lasts."""

    def __init__(self, runs: JobRuns, run_id: int, period_s: float = HEARTBEAT_S) -> None:
        self._runs = runs
        self._id = run_id
        self._period_s = period_s
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name=f"heart-{run_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def watch(self, progress: Progress | None) -> Progress:
        """``progress``, but raising `RunLost` once the run is nobody's: it must not publish then."""

        def told(stage: str, share: float) -> None:
            if self._lost:
                raise RunLost(f"run {self._id} was taken for dead; another one may be running, so this one stops")
            if progress is not None:
                progress(stage, share)

        return told

    def _beat(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._lost = not self._runs.heartbeat(self._id)
            except StoreUnavailable:
                continue  # the next beat may get through; `reap` decides if none does
