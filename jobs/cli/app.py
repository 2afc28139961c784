"""The `thalweg` command line: all commands under one name, its exit codes, and how errors are shown.

Modules of this folder import what is heavy inside their commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from agent.errors import ThalwegError
from jobs.cli import (
    data,
    doctor,
    drifts,
    evaluate,
    feedback,
    heads,
    judge,
    models,
    refresh,
    replay,
    retention,
    route,
    schedule,
    snapshots,
    tasks,
)

BUG = 1
BAD_INPUT = 2


class Commands(TyperGroup):
    """Prints a `ThalwegError`, which the caller can mend, as one line on stderr and exits with `BAD_INPUT`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ThalwegError as error:
            print(f"thalweg: {error.message}", file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from error


app = typer.Typer(
    cls=Commands,
    help="Thalweg: an LLM router that keeps learning. Settings come from the environment, THALWEG_HOME first of all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("route")(route.route)
app.command("import")(data.import_files)
app.command("refresh")(refresh.refresh)
app.command("retention")(retention.retention)
app.command("evaluate")(evaluate.evaluate)
app.command("replay")(replay.replay)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(tasks.app, name="tasks")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(heads.app, name="heads")
app.add_typer(feedback.app, name="feedback")
app.add_typer(judge.app, name="judge")
app.add_typer(refresh.runs, name="runs")
app.add_typer(schedule.app, name="schedule")
app.add_typer(drifts.app, name="drifts")


def main() -> None:
    """Run the command line; the project's console script. An error is one line, a traceback only with THALWEG_DEBUG."""
    # Beside a server, spinning BLAS threads cost ten times what they give.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app(prog_name="thalweg")
    except Exception as error:
        if os.environ.get("THALWEG_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".split("\n")[0]
        print(f"thalweg: {what} (this is a bug; THALWEG_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(BUG)
