"""`thalweg heads`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, confirm, context, show, table

if TYPE_CHECKING:
    from store.heads import HeadView

app = typer.Typer(
    help="Single heads: list, show, replace, switch off and on. A change publishes the champion anew with that head changed; "
    "`thalweg snapshots rollback` takes it back.",
    no_args_is_help=True,
)

Version = Annotated[int | None, typer.Option(help="Of the snapshot; the champion where not given.")]
Task = Annotated[str, typer.Argument(help="Id of a task, or general.")]
Model = Annotated[str, typer.Argument(help="As clients write it, vendor/model.")]


@app.command("list")
def list_heads(version: Version = None, as_json: Json = False) -> None:
    """The heads of a snapshot, the general ones first."""
    from store.heads import list_heads as heads_of

    with context() as ctx:
        found = heads_of(ctx.snapshots.load(_version(ctx.snapshots.champion_version(), version)))
    columns = {
        "task": "right",
        "model": "left",
        "inputs": "right",
        "norm": "right",
        "intercept": "right",
        "state": "left",
    }
    show(found, as_json, lambda: table("", columns, [_row(head) for head in found], "it has no heads"))


@app.command("show")
def show_head(task: Task, model: Model, version: Version = None, as_json: Json = False) -> None:
    """One head with its weights."""
    from store.heads import get_head

    with context() as ctx:
        found = get_head(ctx.snapshots.load(_version(ctx.snapshots.champion_version(), version)), task, model)
    weights = ((str(i), f"{w:.6g}") for i, w in enumerate(found.weight or ()))
    show(found, as_json, lambda: table(" ".join(_row(found)), {"input": "right", "weight": "right"}, list(weights)))


@app.command("off")
def off(task: Task, model: Model, as_json: Json = False) -> None:
    """Switch a head of the champion off; its weights stay readable."""
    _change(task, model, as_json, off=True)


@app.command("on")
def on(task: Task, model: Model, as_json: Json = False) -> None:
    """Switch a head of the champion on again."""
    _change(task, model, as_json)


@app.command("replace")
def replace(
    task: Task,
    model: Model,
    weights: Annotated[Path, typer.Option(help="A JSON file: a list of numbers, the intercept last.")],
    as_json: Json = False,
) -> None:
    """Replace the weights of a head of the champion."""
    from agent.errors import InvalidInput

    try:
        given = json.loads(weights.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{weights}: {error}", param="weights") from error
    if not isinstance(given, list) or not all(type(w) in (int, float) for w in given):
        raise InvalidInput(f"{weights}: a list of numbers is wanted", param="weights")
    _change(task, model, as_json, weight=given)


def _change(task: str, model: str, as_json: bool, *, off: bool = False, weight: list[float] | None = None) -> None:
    from store.heads import change_head

    with context() as ctx:
        version = _version(ctx.snapshots.champion_version(), None)
        found = change_head(ctx.snapshots, version, task, model, by="command line", off=off, weight=weight)
    message = f"snapshot {found.snapshot} is the champion now; a running server follows within a second"
    confirm(found, as_json, message)


def _version(champion: int | None, version: int | None) -> int:
    from agent.errors import InvalidInput

    found = champion if version is None else version
    if found is None:
        raise InvalidInput("there is no snapshot yet; `thalweg refresh` makes one", param="version")
    return found


def _row(head: HeadView) -> tuple[str, ...]:
    state = "off" if head.off else "on"
    task = "general" if head.task is None else str(head.task)
    return task, head.model, str(head.inputs), f"{head.norm:.4f}", f"{head.intercept:+.4f}", state
