"""`thalweg drifts`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.cli.console import Json, context, show, table, when

app = typer.Typer(help="Silent changes of models, as a running server finds them.", no_args_is_help=True)


@app.command("list")
def list_drifts(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50, as_json: Json = False
) -> None:
    """Drifts, newest first."""
    from store.drifts import DriftStore

    with context() as world:
        found = DriftStore(world.database).list(limit=limit)
    data = [asdict(f.drift) | {"snapshot": f.snapshot, "detected_at": f.detected_at, "why": f.why} for f in found]
    show(data, as_json, lambda: table(
        "",
        {"found": "left", "model": "left", "shift": "right", "since row": "right", "at row": "right", "snapshot": "right",
         "detector": "left"},
        [
            (
                when(f.detected_at), f.drift.model, f"{f.drift.shift:+.2f}", str(f.drift.since), str(f.drift.position),
                str(f.snapshot), f.drift.detector,
            )
            for f in found
        ],
        "no model has changed silently",
    ))  # fmt: skip
