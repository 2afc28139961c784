"""`thalweg feedback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, context, say, show, table, when

if TYPE_CHECKING:
    from agent.feedback.ledger import Ledger
    from store.feedback import FeedbackEvent

app = typer.Typer(help="The feedback log.", no_args_is_help=True)


@app.command("list")
def list_feedback(
    decision: Annotated[str | None, typer.Option(help="Of this decision only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Feedback, newest first."""
    with context() as world:
        found = world.feedback.list(decision_id=decision, limit=limit)
    show(found, as_json, lambda: table(
        "",
        {"seq": "right", "when": "left", "decision": "left", "model": "left", "against": "left", "score": "right",
         "source": "left", "rater": "left", "revises": "right", "comment": "left"},
        [
            (
                str(r.seq), when(r.created_at), r.event.decision_id, r.model, r.event.other or "",
                f"{r.event.score:.2f}", r.event.source, r.event.rater,
                "" if r.revises is None else f"{r.revises:.2f}", r.event.comment,
            )
            for r in found
        ],
        "no feedback yet",
    ))  # fmt: skip


@app.command("add")
def add(
    decision: Annotated[str, typer.Argument(help="Id of the decision, from x-thalweg-decision-id.")],
    score: Annotated[float | None, typer.Option(help="0 (bad) to 1 (good).")] = None,
    thumb: Annotated[str | None, typer.Option(help="up or down, instead of a score.")] = None,
    source: Annotated[str, typer.Option(help="user, judge or implicit.")] = "user",
    rater: Annotated[str, typer.Option(help="Who; the same rater again revises.")] = "",
    comment: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: Json = False,
) -> None:
    """Score an answer. A running server learns from it within a second."""
    from agent.errors import InvalidInput
    from store.feedback import FeedbackEvent

    thumbs = {"up": 1.0, "down": 0.0}
    if (score is None) == (thumb is None):
        raise InvalidInput("give either --score 0..1 or --thumb up/down", param="score")
    if thumb is not None and thumb not in thumbs:
        raise InvalidInput(f"--thumb is {thumb!r}; give up or down", param="thumb")
    event = FeedbackEvent(
        decision,
        score if score is not None else thumbs[str(thumb)],
        source,  # type: ignore[arg-type]  # FeedbackEvent checks it
        rater,
        comment,
        thumb=thumb,  # type: ignore[arg-type]
    )
    _append(event, as_json)


@app.command("compare")
def compare(
    decision: Annotated[str, typer.Argument(help="Id of the decision, from x-thalweg-decision-id.")],
    other: Annotated[str, typer.Argument(help="The model whose answer was compared with the decision's.")],
    preferred: Annotated[str, typer.Argument(help="decision, other, or tie.")],
    source: Annotated[str, typer.Option(help="user, judge or implicit.")] = "user",
    rater: Annotated[str, typer.Option(help="Who; the same rater again revises.")] = "",
    comment: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: Json = False,
) -> None:
    """Say which of two answers is better. A running server learns from it within a second."""
    from agent.errors import InvalidInput
    from store.feedback import FeedbackEvent

    verdicts = {"decision": 1.0, "other": 0.0, "tie": 0.5}
    if preferred not in verdicts:
        raise InvalidInput(f"preferred is {preferred!r}; give decision, other or tie", param="preferred")
    event = FeedbackEvent(
        decision,
        verdicts[preferred],
        source,  # type: ignore[arg-type]  # FeedbackEvent checks it
        rater,
        comment,
        other=other,
    )
    _append(event, as_json)


@app.command("sources")
def sources(as_json: Json = False) -> None:
    """What is known of each source of feedback: its bias, slope and noise, and what a word of it weighs."""
    found = _ledger().sources()
    show(found, as_json, lambda: table(
        "",
        {"source": "left", "kind": "left", "words": "right", "bias": "right", "slope": "right", "noise": "right",
         "weight": "right"},
        [
            (r.source, r.kind, f"{r.n_ratings:,}", f"{r.bias:+.2f}", f"{r.slope:.2f}", f"{r.noise:.2f}", f"{r.weight:.2f}")
            for r in found
        ],
        "no feedback yet",
    ))  # fmt: skip


@app.command("raters")
def raters(
    limit: Annotated[int, typer.Option(min=1, help="How many, the least reliable first.")] = 50, as_json: Json = False
) -> None:
    """What is known of each named rater: how reliable, and how far above their source they score."""
    found = _ledger().raters(limit)
    show(found, as_json, lambda: table(
        "",
        {"rater": "left", "source": "left", "words": "right", "weight": "right", "level": "right"},
        [(r.rater, r.source, f"{r.n_ratings:,}", f"{r.weight:.2f}", f"{r.offset:+.2f}") for r in found],
        "no named rater yet",
    ))  # fmt: skip


def _append(event: FeedbackEvent, as_json: bool) -> None:
    from agent.errors import InvalidInput, UnknownDecision

    with context() as world:
        receipt = world.feedback.append([event]).result()[0]
    if receipt.status == "refused":
        kind = UnknownDecision if receipt.param == "decision_id" else InvalidInput
        raise kind(receipt.reason or "refused", param=receipt.param)
    if as_json:
        show(receipt, True, lambda: "")
    else:
        say(f"{receipt.status} as row {receipt.seq} of the log")


def _ledger() -> Ledger:
    """The ledger at the head of the log."""
    from agent.feedback.state import learn_one

    with context() as world:
        version = world.snapshots.champion_version()
        champion = None if version is None else world.snapshots.load(version)
        rows = world.feedback.between(champion.position if champion else 0, world.feedback.head())
        return learn_one(champion, rows).ledger
