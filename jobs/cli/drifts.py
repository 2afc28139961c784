"""`thalweg drifts`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.console import Json, context, show, table, when

app = typer.Typer(help="Silent changes of models that a running server has detected.", no_args_is_help=True)


@app.command("list")
def list_drifts(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50, as_json: Json = False
) -> None:
    """Drifts of quality, tokens, latency and failures, newest first."""
    from store.drifts import DriftStore
    from store.views import DriftView

    with context() as ctx:
        found = [DriftView.of(drift) for drift in DriftStore(ctx.database).list(limit=limit)]
    show(found, as_json, lambda: table(
        "",
        {"found": "left", "model": "left", "kind": "left", "shift": "right", "since row": "right", "at row": "right",
         "snapshot": "right", "detector": "left"},
        [
            (
                when(d.detected_at), d.model, d.kind, f"{d.shift:+.2f}", str(d.since), str(d.position),
                str(d.snapshot or ""), d.detector,
            )
            for d in found
        ],
        "no model has changed silently",
    ))  # fmt: skip
