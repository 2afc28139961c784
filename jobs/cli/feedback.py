"""`thalweg feedback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, confirm, context, show, table, when

if TYPE_CHECKING:
    from agent.feedback.ledger import Ledger

app = typer.Typer(help="The feedback log.", no_args_is_help=True)

DecisionId = Annotated[str, typer.Argument(help="Id of the decision, from x-thalweg-decision-id.")]
Source = Annotated[str, typer.Option(help="user, judge or implicit; evaluation: a true score.")]
Rater = Annotated[str, typer.Option(help="Who gives it; the same rater again revises.")]
Comment = Annotated[str, typer.Option(help="Kept with it, for people.")]


@app.command("list")
def list_feedback(
    decision: Annotated[str | None, typer.Option(help="Of this decision only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Feedback, newest first."""
    from store.views import FeedbackView

    with context() as ctx:
        found = [FeedbackView.of(row) for row in ctx.feedback.list(decision_id=decision, limit=limit)]
    show(found, as_json, lambda: table(
        "",
        {"seq": "right", "when": "left", "decision": "left", "model": "left", "against": "left", "score": "right",
         "source": "left", "rater": "left", "revises": "right", "comment": "left"},
        [
            (
                str(r.seq), when(r.created_at), r.decision_id, r.model, r.other or "", f"{r.score:.2f}", r.source,
                r.rater, "" if r.revises is None else f"{r.revises:.2f}", r.comment,
            )
            for r in found
        ],
        "no feedback yet",
    ))  # fmt: skip


@app.command("add")
def add(
    decision: DecisionId,
    score: Annotated[float | None, typer.Option(help="0 (bad) to 1 (good).")] = None,
    thumb: Annotated[str | None, typer.Option(help="up or down, instead of a score.")] = None,
    source: Source = "user",
    rater: Rater = "",
    comment: Comment = "",
    as_json: Json = False,
) -> None:
    """Score an answer. A running server learns from it within a second."""
    from agent.errors import InvalidInput

    thumbs = {"up": 1.0, "down": 0.0}
    if (score is None) == (thumb is None):
        raise InvalidInput("give either --score 0..1 or --thumb up/down", param="score")
    if thumb is not None and thumb not in thumbs:
        raise InvalidInput(f"--thumb is {thumb!r}; give up or down", param="thumb")
    _append(as_json, decision, score if thumb is None else thumbs[thumb], source, rater, comment, thumb=thumb)


@app.command("compare")
def compare(
    decision: DecisionId,
    other: Annotated[str, typer.Argument(help="The model whose answer was compared with the decision's.")],
    preferred: Annotated[str, typer.Argument(help="decision, other, or tie.")],
    source: Source = "user",
    rater: Rater = "",
    comment: Comment = "",
    as_json: Json = False,
) -> None:
    """Say which of two answers is better. A running server learns from it within a second."""
    from agent.errors import InvalidInput

    scores = {"decision": 1.0, "other": 0.0, "tie": 0.5}
    if preferred not in scores:
        raise InvalidInput(f"preferred is {preferred!r}; give decision, other or tie", param="preferred")
    _append(as_json, decision, scores[preferred], source, rater, comment, other=other)


@app.command("sources")
def sources(as_json: Json = False) -> None:
    """Calibration of each source of feedback: its bias, slope and noise, and the weight of one rating of it."""
    found = ledger().sources()
    show(found, as_json, lambda: table(
        "",
        {"source": "left", "kind": "left", "ratings": "right", "bias": "right", "slope": "right", "noise": "right",
         "weight": "right"},
        [
            (s.source, s.kind, f"{s.n_ratings:,}", f"{s.bias:+.2f}", f"{s.slope:.2f}", f"{s.noise:.2f}", f"{s.weight:.2f}")
            for s in found
        ],
        "no feedback yet",
    ))  # fmt: skip


@app.command("raters")
def raters(
    limit: Annotated[int, typer.Option(min=1, help="How many, the least reliable first.")] = 50, as_json: Json = False
) -> None:
    """Reliability of each named rater, and how far above their source's mean they score."""
    found = ledger().raters(limit)
    show(found, as_json, lambda: table(
        "",
        {"rater": "left", "source": "left", "ratings": "right", "weight": "right", "offset": "right"},
        [(r.rater, r.source, f"{r.n_ratings:,}", f"{r.weight:.2f}", f"{r.offset:+.2f}") for r in found],
        "no named rater yet",
    ))  # fmt: skip


@app.command("set-aside")
def list_set_aside(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50, as_json: Json = False
) -> None:
    """Rows of the log from which nothing was learned, and why, newest first. Learning goes on after them."""
    from store.set_aside import SetAsideStore

    with context() as ctx:
        found = SetAsideStore(ctx.database).list(limit=limit)
    show(found, as_json, lambda: table(
        "",
        {"seq": "right", "when": "left", "decision": "left", "model": "left", "score": "right", "why": "left"},
        [(str(r.seq), when(r.set_aside_at), r.decision_id, r.model, f"{r.score:.2f}", r.reason) for r in found],
        "no row was set aside",
    ))  # fmt: skip


def _append(as_json: bool, *event: Any, **more: Any) -> None:
    """Append a `FeedbackEvent` of these fields, which it checks, and print the receipt."""
    from agent.errors import InvalidInput, UnknownDecision
    from store.feedback import FeedbackEvent

    with context() as ctx:
        receipt = ctx.feedback.append([FeedbackEvent(*event, **more)]).result()[0]
    if receipt.status == "refused":
        kind = UnknownDecision if receipt.param == "decision_id" else InvalidInput
        raise kind(receipt.reason or "refused", param=receipt.param)
    confirm(receipt, as_json, f"{receipt.status} as row {receipt.seq} of the log")


def ledger() -> Ledger:
    """The ledger at the head of the log."""
    from agent.feedback.state import ledger_after

    with context() as ctx:
        champion = ctx.champion()
        rows = ctx.feedback.between(champion.position if champion else 0, ctx.feedback.head())
        return ledger_after(champion, rows)
