"""`thalweg retention`."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any

import typer

from jobs.cli.console import Json, context, progress, show, table


def retention(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be deleted, and delete nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete decisions, feedback, prompts and snapshots' weights that the THALWEG_RETENTION_ settings do not keep."""
    from agent.errors import InvalidInput
    from jobs.schedule.worker import STALE_AFTER_S, run_job
    from store.runs import JobRuns

    with context() as ctx:
        queue = JobRuns(ctx.database)
        queue.reap(STALE_AFTER_S)
        run_id = queue.request("retention", {"dry_run": True} if dry_run else {}, "command line")
        run = queue.claim(["retention"], f"{socket.gethostname()}:{os.getpid()}")
        if run is None or run.id != run_id:
            raise InvalidInput(
                "another worker keeps the retention now; `thalweg runs list` shows it", param="retention"
            )
        with progress("retention") as report:
            run_job(run, ctx.settings, report)
        done = queue.get(run_id)
        found: dict[str, Any] = {"run": run_id, **(done.result or {})}
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in found.items() if name not in ("run", "dry_run")]
    heading = "would be deleted" if dry_run else "deleted"
    show(found, as_json, lambda: table("", {heading: "left", "number": "right"}, rows))
