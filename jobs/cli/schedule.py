"""`thalweg schedule`."""

from __future__ import annotations

import typer

from jobs.cli.console import Json, context, show, table, when

app = typer.Typer(help="When jobs run: by their schedules, and what else calls them.", no_args_is_help=True)


@app.command("list")
def list_schedule(as_json: Json = False) -> None:
    """Each job with its schedule, its last run and the next one by the schedule. The settings are those of this environment."""
    from jobs.schedule.timetable import plans
    from store.columns import utc_now
    from store.schedule import scheduled_jobs

    with context() as ctx:
        found = scheduled_jobs(ctx.database, plans(ctx.settings), utc_now())
    columns = {"job": "left", "schedule": "left", "last run": "left", "next run": "left", "also called by": "left"}
    show(found, as_json, lambda: table(
        "", columns,
        [
            (
                j.job, j.schedule, f"{when(j.last_run)} {j.last_state or ''}".strip(), when(j.next_run),
                "; ".join(j.also) or "-",
            )
            for j in found
        ],
    ))  # fmt: skip
