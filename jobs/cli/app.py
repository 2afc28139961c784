"""All commands under one name, and what becomes of the errors that Thalweg raises on purpose."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from agent.errors import ThalwegError
from jobs.cli import data, doctor, drifts, evaluate, feedback, models, refresh, replay, route, snapshots, tasks

BAD_INPUT = 2


class Commands(TyperGroup):
    """Tells what the caller can mend on stderr, and exits with 2."""

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
app.command("evaluate")(evaluate.evaluate)
app.command("replay")(replay.replay)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(tasks.app, name="tasks")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(feedback.app, name="feedback")
app.add_typer(refresh.runs, name="runs")
app.add_typer(drifts.app, name="drifts")
