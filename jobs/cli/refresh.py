"""`thalweg refresh` and `thalweg runs`."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, context, progress, say, show, table, when

if TYPE_CHECKING:
    from store.runs import JobRuns, Run

runs = typer.Typer(help="Runs of jobs, those of the server's timetable too.", no_args_is_help=True)

_POLL_S = 1.0


def refresh(
    seed: Annotated[int | None, typer.Option(help="Of everything random; THALWEG_SEED by default.")] = None,
    as_json: Json = False,
) -> None:
    """Discover the tasks anew, retrain, and promote the result if the gate finds it better. A server that runs follows."""
    from agent.errors import InvalidInput
    from jobs.schedule.worker import STALE_AFTER_S, run_job
    from store.runs import JobRuns
    from store.snapshots import SnapshotStore

    with context() as world:
        queue = JobRuns(world.database)
        queue.reap(STALE_AFTER_S)
        run_id = queue.request("refresh", {} if seed is None else {"seed": seed}, "command line")
        run = queue.claim(["refresh"], f"{socket.gethostname()}:{os.getpid()}")
        with progress("refresh") as tell:
            if run is not None:
                run_job(run, world.settings, tell)
                run_id = run.id
            else:
                _follow(queue, run_id, tell)
        ended = queue.get(run_id)
        if ended.state != "done" or ended.result is None:
            raise InvalidInput(f"run {run_id} failed: {ended.reason}; the champion serves on", param="refresh")
        version = int(ended.result["version"])
        row = next(r for r in SnapshotStore(world.database).list() if r.version == version)
    data: dict[str, Any] = {"run": run_id, "version": version, "status": row.status, "report": dict(row.report)}
    show(data, as_json, lambda: _render(version, dict(row.report)))


def _follow(queue: JobRuns, run_id: int, tell: Any) -> None:
    """Wait for a run that another worker has, or will have once the one before it has ended."""
    from jobs.schedule.worker import STALE_AFTER_S

    say(f"another worker has the refreshes; waiting for run {run_id}")
    while (run := queue.get(run_id)).state in ("queued", "running"):
        tell(f"run {run_id} is {run.state} elsewhere", 0.0)
        queue.reap(STALE_AFTER_S)
        time.sleep(_POLL_S)


def _render(version: int, report: dict[str, Any]) -> Any:
    labels, counts = report.get("labels"), report["counts"]
    rows = [
        ("snapshot", str(version)),
        ("verdict", "promoted" if report["promoted"] else "rejected"),
        ("why", report["reason"]),
        ("trained on", f"{counts['prompts']:,} prompts, {counts['scores']:,} scores"),
        ("judged on", f"{counts['evaluations']:,} evaluated prompts, {counts['feedback_rows']:,} feedback rows"),
        ("tasks", f"{report['tasks']} with {report['heads']:,} heads"),
        ("took", f"{report['wall_s']:.1f} s, {report['peak_rss_mb']:,.0f} MB at most"),
    ]
    if labels:
        rows.insert(-1, ("agreement", f"NMI {labels['nmi']:.3f} with {labels['true']} true labels"))
    return table("", {"refresh": "left", "": "left"}, rows)


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20, as_json: Json = False
) -> None:
    """Runs of jobs, newest first."""
    from store.runs import JobRuns

    with context() as world:
        found = JobRuns(world.database).list(limit)
    columns = {"run": "right", "job": "left", "state": "left", "asked by": "left", "started": "left", "s": "right",
               "outcome": "left"}  # fmt: skip
    show(found, as_json, lambda: table("", columns, [_row(run) for run in found], "no job has run yet"))


def _row(run: Run) -> tuple[str, ...]:
    took = (
        "-" if not (run.started_at and run.finished_at) else f"{(run.finished_at - run.started_at).total_seconds():.0f}"
    )
    outcome = run.reason or (str(run.result.get("reason", "")) if run.result else "")
    asked = ": ".join(filter(None, (run.requested_by, run.params.get("why"))))
    return str(run.id), run.job, run.state, asked, when(run.started_at), took, outcome
