"""`thalweg snapshots`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, confirm, context, show, table, when

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.evaluation.off_policy import Value
    from store.snapshot_views import SnapshotView, TrialView

app = typer.Typer(
    help="Versions of the router: list them with the gate's verdicts, promote one, roll back, estimate their values.",
    no_args_is_help=True,
)

Reason = Annotated[str, typer.Option(help="Kept with the snapshot.")]


@app.command("list")
def list_snapshots(as_json: Json = False) -> None:
    """Snapshots and their trials, newest first, with why each is what it is."""
    from store.snapshot_views import SnapshotView, TrialView
    from store.trials import TrialStore

    with context() as ctx:
        trials = TrialStore(ctx.database).list()
        found = SnapshotView.of_all(ctx.snapshots.list(), trials)
    show(found, as_json, lambda: _list(found, [TrialView.of(trial) for trial in trials]))


def _list(snapshots: Sequence[SnapshotView], trials: Sequence[TrialView]) -> RenderableType:
    from rich.console import Group

    tables = [table(
        "",
        {"version": "right", "status": "left", "made": "left", "by": "left", "tasks": "right", "heads": "right",
         "feedback to": "right", "why": "left"},
        [
            (
                str(s.version), s.status, when(s.created_at), s.created_by, str(s.tasks), f"{s.heads:,}", str(s.position),
                s.why,
            )
            for s in snapshots
        ],
        "there is no snapshot yet; `thalweg route` or `thalweg refresh` makes one",
    )]  # fmt: skip
    if trials:
        columns = {"trial": "right", "kind": "left", "champion": "right", "challenger": "right", "state": "left",
                   "started": "left", "scored": "right", "difference": "left", "regret": "right", "days left": "right",
                   "why": "left"}  # fmt: skip
        tables.append(table("trials: challenger less champion", columns, [_trial(t) for t in trials]))
    return Group(*tables)


def _trial(t: TrialView) -> tuple[str, ...]:
    known = t.difference is not None and t.lower is not None and t.upper is not None
    return (
        str(t.id), t.kind, str(t.champion), str(t.challenger), t.state, when(t.started_at),
        f"{t.scored:,} of {t.decisions:,}",
        f"{t.difference:+.4f} [{t.lower:+.3f}, {t.upper:+.3f}]" if known else "-",
        f"{t.expected_regret:.2f}", "-" if t.days_left is None else f"{t.days_left:.1f}", t.why,
    )  # fmt: skip


@app.command("promote")
def promote(
    version: Annotated[int, typer.Argument(help="As `list` shows it.")],
    reason: Reason = "promoted by hand",
    as_json: Json = False,
) -> None:
    """Make a snapshot the champion, whatever the gate's verdict was."""
    with context() as ctx:
        ctx.snapshots.promote(version, reason)
    _confirm(version, reason, as_json)


@app.command("end-trial")
def end_trial(reason: Reason = "ended by hand", as_json: Json = False) -> None:
    """End the trial that runs; the champion stays, and a challenger on trial is rejected."""
    with context() as ctx:
        trial = ctx.snapshots.end_trial(reason)
    confirm(
        {"trial": trial, "state": "ended", "reason": reason}, as_json, f"trial {trial} has ended; the champion stays"
    )


@app.command("rollback")
def rollback(reason: Reason = "rolled back by hand", as_json: Json = False) -> None:
    """Make the champion before this one the champion again."""
    with context() as ctx:
        version = ctx.snapshots.rollback(reason)
    _confirm(version, reason, as_json)


@app.command("value")
def value(
    versions: Annotated[
        list[int] | None, typer.Argument(help="Snapshots; the champion and the one before it by default.")
    ] = None,
    since: Annotated[int, typer.Option(min=0, help="Only feedback after this position of the log.")] = 0,
    always: Annotated[
        list[str] | None, typer.Option(help="Also a policy that always chooses this model; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate the quality that snapshots would have had on the logged decisions, with 95 % intervals."""
    from jobs.monitor.value import snapshot_values

    with context() as ctx:
        found = snapshot_values(ctx.database, ctx.feedback, versions or (), always=always or (), since=since)
    excluded = ", ".join(f"{count:,} {why}" for why, count in found.excluded.items() if count) or "none"
    show(found.as_json(), as_json, lambda: table(
        f"{found.decisions:,} decisions: {found.fresh:,} with feedback after every snapshot was trained, {found.trained_on:,} "
        f"whose own scores are hidden from the snapshots that were trained on them. Left out: {excluded}",
        {"policy": "left", "IPS": "right", "SNIPS": "right", "doubly robust": "right", "$ a request": "right",
         "effective": "right", "clipped": "right"},
        [
            (
                p.policy, _interval(p.ips), _interval(p.snips), _interval(p.dr), f"{p.cost:.6f}", f"{p.effective:,.0f}",
                f"{p.clipped:,}",
            )
            for p in found.policies
        ],
        "no decisions with feedback",
    ))  # fmt: skip


def _interval(found: Value) -> str:
    """A quality with its 95 % interval."""
    low, high = found.interval(0.95)
    return f"{found.mean:.3f} [{low:.3f}, {high:.3f}]" if found.stderr < float("inf") else "-"


def _confirm(version: int, reason: str, as_json: bool) -> None:
    from store.views import PromotionView

    view = PromotionView(version=version, reason=reason)
    confirm(view, as_json, f"snapshot {version} is the champion now; a running server follows within a second")
