"""`thalweg snapshots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, context, say, show, table, when

if TYPE_CHECKING:
    from agent.evaluation.off_policy import Value

app = typer.Typer(help="Versions of the router, the gate's verdicts, and the way back.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Kept with the snapshot.")]


@app.command("list")
def list_snapshots(as_json: Json = False) -> None:
    """Snapshots, newest first."""
    with context() as world:
        found = world.snapshots.list()
    show(found, as_json, lambda: table(
        "",
        {"version": "right", "status": "left", "made": "left", "by": "left", "tasks": "right", "heads": "right",
         "feedback to": "right", "verdict": "left"},
        [
            (
                str(r.version), r.status, when(r.created_at), r.created_by, str(r.tasks), f"{r.heads:,}", str(r.position),
                str((r.report.get("demoted") or r.report).get("reason", "")),
            )
            for r in found
        ],
        "there is no snapshot yet; `thalweg route` or `thalweg refresh` makes one",
    ))  # fmt: skip


@app.command("promote")
def promote(
    version: Annotated[int, typer.Argument(help="As `list` shows it.")],
    reason: Reason = "promoted by hand",
    as_json: Json = False,
) -> None:
    """Make a snapshot the champion, whatever the gate said of it."""
    with context() as world:
        world.snapshots.promote(version, reason)
    _tell(version, reason, as_json)


@app.command("rollback")
def rollback(reason: Reason = "rolled back by hand", as_json: Json = False) -> None:
    """Make the last champion before this one the champion again."""
    with context() as world:
        version = world.snapshots.rollback(reason)
    _tell(version, reason, as_json)


@app.command("value")
def value(
    versions: Annotated[list[int] | None, typer.Argument(help="The champion and the one before it, if none.")] = None,
    since: Annotated[int, typer.Option(min=0, help="Only feedback after this position of the log.")] = 0,
    always: Annotated[list[str] | None, typer.Option(help="A model, as a policy of its own.")] = None,
    as_json: Json = False,
) -> None:
    """What snapshots would have earned on the logged decisions, the scores of each hidden from them."""
    from jobs.monitor.value import value as judge

    with context() as world:
        found = judge(world.database, world.feedback, versions or (), always=always or (), since=since)
    left = ", ".join(f"{count:,} {why}" for why, count in found.excluded.items() if count) or "none"
    show(found.as_json(), as_json, lambda: table(
        f"{found.decisions:,} decisions: {found.fresh:,} with feedback after every snapshot was trained, {found.trained_on:,} "
        f"whose own scores are hidden from the snapshots that were trained on them. Left out: {left}",
        {"policy": "left", "IPS": "right", "SNIPS": "right", "doubly robust": "right", "$ a request": "right",
         "effective": "right", "clipped": "right"},
        [
            (
                w.policy, _interval(w.ips), _interval(w.snips), _interval(w.dr), f"{w.cost:.6f}",
                f"{w.effective:,.0f}", f"{w.clipped:,}",
            )
            for w in found.policies
        ],
        "nothing to judge by",
    ))  # fmt: skip


def _interval(found: Value) -> str:
    """A quality with its 95 % interval."""
    low, high = found.interval(0.95)
    return f"{found.mean:.3f} [{low:.3f}, {high:.3f}]" if found.stderr < float("inf") else "-"


def _tell(version: int, reason: str, as_json: bool) -> None:
    if as_json:
        show({"champion": version, "reason": reason}, True, lambda: "")
    else:
        say(f"snapshot {version} is the champion now; a running server follows within a second")
