"""`thalweg refresh` and `thalweg runs`."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, context, progress, show, table, when

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.evaluation.challenger import Progress
    from store.runs import JobRuns, Run

runs = typer.Typer(help="Runs of jobs, those that the server asked for too.", no_args_is_help=True)

_POLL_S = 1.0


def refresh(
    seed: Annotated[
        int | None, typer.Option(help="Seed of the random number generator; THALWEG_SEED by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Discover the tasks anew, retrain, and promote the result if the gate allows it. A running server follows."""
    from agent.errors import InvalidInput
    from jobs.schedule.worker import STALE_AFTER_S, run_job
    from store.runs import JobRuns

    with context() as ctx:
        ctx.sync_pool()
        queue = JobRuns(ctx.database)
        queue.reap(STALE_AFTER_S)
        run_id = queue.request("refresh", {} if seed is None else {"seed": seed}, "command line")
        run = queue.claim(["refresh"], f"{socket.gethostname()}:{os.getpid()}")
        with progress("refresh") as report:
            if run is not None:
                run_job(run, ctx.settings, report)
                run_id = run.id
            else:
                _follow(queue, run_id, report)
        ended = queue.get(run_id)
        if ended.state != "done" or ended.result is None:
            raise InvalidInput(f"run {run_id} failed: {ended.reason}; the champion serves on", param="refresh")
        version = int(ended.result["version"])
        row = next(r for r in ctx.snapshots.list() if r.version == version)
    data = {"run": run_id, "version": version, "status": row.status, "report": row.report}
    show(data, as_json, lambda: _render(version, row.status, row.report))


def _follow(queue: JobRuns, run_id: int, report: Progress) -> None:
    """Wait for a run that another worker executes, or will execute after the one before it."""
    from jobs.schedule.worker import STALE_AFTER_S

    print(f"another worker has the refreshes; waiting for run {run_id}", file=sys.stderr)
    while (run := queue.get(run_id)).state in ("queued", "running"):
        report(f"run {run_id} is {run.state} elsewhere", 0.0)
        queue.reap(STALE_AFTER_S)
        time.sleep(_POLL_S)


def _render(version: int, status: str, report: Mapping[str, Any]) -> RenderableType:
    labels, counts = report.get("labels"), report["counts"]
    rows = [
        ("snapshot", str(version)),
        ("verdict", {"champion": "promoted", "trial": "on trial"}.get(status, status)),
        ("why", report["reason"]),
        ("trained on", f"{counts['prompts']:,} prompts, {counts['scores']:,} scores"),
        ("judged on", f"{counts['evaluations']:,} evaluated prompts, {counts['feedback_rows']:,} feedback rows"),
        ("tasks", f"{report['tasks']} with {report['heads']:,} heads"),
        ("heads", heads_in_words(report["experts"])),
        ("took", f"{report['wall_s']:.1f} s, {report['peak_rss_mb']:,.0f} MB at most"),
    ]
    if labels:
        rows.insert(-1, ("agreement", f"NMI {labels['nmi']:.3f} with {labels['true']} true labels"))
    return table("", {"refresh": "left", "": "left"}, rows)


def heads_in_words(experts: Mapping[str, Any]) -> str:
    """What became of the task heads, and how far training beyond the closed form is believed, see `agent.experts`.

    Examples
    --------
    >>> task = {"kind": "keep", "alpha": 0.5, "inherited": True}
    >>> heads_in_words({"general": 0.0, "task": 0.4, "tasks": [task, {"kind": "retire", "alpha": 0.0, "inherited": False}]})
    '1 of 1 tasks have heads, 1 from their parents; trained changes believed: general 0%, task 40%'
    """
    tasks = [t for t in experts["tasks"] if t["kind"] in ("keep", "spawn")]
    stored, inherited = sum(t["alpha"] > 0.0 for t in tasks), sum(t["inherited"] for t in tasks)
    believed = f"general {experts['general']:.0%}, task {experts['task']:.0%}"
    return f"{stored} of {len(tasks)} tasks have heads, {inherited} from their parents; trained changes believed: {believed}"


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20, as_json: Json = False
) -> None:
    """Runs of jobs, newest first."""
    from store.runs import JobRuns

    with context() as ctx:
        found = JobRuns(ctx.database).list(limit)
    columns = {"run": "right", "job": "left", "state": "left", "asked by": "left", "started": "left", "s": "right",
               "outcome": "left"}  # fmt: skip
    show(found, as_json, lambda: table("", columns, [_row(run) for run in found], "no job has run yet"))


def _row(run: Run) -> tuple[str, ...]:
    took = "-"
    if run.started_at and run.finished_at:
        took = f"{(run.finished_at - run.started_at).total_seconds():.0f}"
    outcome = run.reason or (str(run.result.get("reason", "")) if run.result else "")
    asked = ": ".join(filter(None, (run.requested_by, run.params.get("why"))))
    return str(run.id), run.job, run.state, asked, when(run.started_at), took, outcome
