"""`thalweg route`: a decision, explained, without calling a model."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, context, progress, show, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from store.views import DecisionView

_PAGE = 1000


def route(
    prompt: Annotated[str, typer.Argument(help="What to route; - reads it from stdin.")],
    system: Annotated[str | None, typer.Option(help="A system message before it.")] = None,
    tradeoff: Annotated[float, typer.Option(help="0 = cheapest, 1 = best, whatever it costs.")] = 0.8,
    max_cost: Annotated[float | None, typer.Option(help="USD that nine of ten such calls must stay within.")] = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="Seconds that nine of ten calls must stay within, as far as their times are known."),
    ] = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Choose among these only; may be repeated.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="Capability that is needed: tools, vision, json.")] = None,
    explore: Annotated[bool, typer.Option(help="Draw by propensity instead of taking the best.")] = False,
    available: Annotated[bool, typer.Option("--available/--all", help="Leave out models without a key.")] = False,
    as_json: Json = False,
) -> None:
    """Show which model a prompt goes to, and why. Nothing is called or recorded."""
    import numpy as np

    from agent.errors import InvalidInput
    from agent.router import Router
    from agent.types import RouteRequest, Turn
    from jobs.refresh.seed import ensure_champion, known_texts
    from store.outcomes import known_outcomes
    from store.views import DecisionView

    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise InvalidInput("the prompt is empty; give some text", param="prompt")
    if not 0.0 <= tradeoff <= 1.0:
        raise InvalidInput(f"--tradeoff is {tradeoff:g}; give a number from 0 to 1", param="tradeoff")
    if deadline is not None and not 0.0 < deadline < math.inf:
        raise InvalidInput(f"--deadline is {deadline:g}; give seconds, more than 0", param="deadline")
    turns = (*((Turn("system", system),) if system else ()), Turn("user", text))
    request = RouteRequest(
        turns,
        requires=frozenset(require or ()),
        cost_quality_tradeoff=tradeoff,
        max_cost=max_cost,
        deadline_s=deadline,
        candidates=tuple(candidate) if candidate else None,
        explore=explore,
        include_unavailable=not available,
    )
    with context() as ctx:
        with progress("first snapshot") as report:
            snapshot = ensure_champion(
                ctx.database, ctx.cached_encoder, ctx.cards(), seed=ctx.settings.seed, progress=report
            )
        if snapshot.encoder != ctx.encoder.fingerprint:
            raise InvalidInput(
                f"snapshot {snapshot.version} reads the embeddings of {snapshot.encoder!r}, THALWEG_ENCODER makes those of "
                f"{ctx.encoder.fingerprint!r}; run `thalweg refresh`, or set THALWEG_ENCODER back",
                param="THALWEG_ENCODER",
            )
        router = Router(snapshot, ctx.cards(), outcomes=known_outcomes(ctx.database))
        while page := ctx.feedback.tail(router.position, _PAGE):
            for observation in page:
                router.learn_one(observation)
        decision = router.route(ctx.encoder.encode([turns])[0], request, np.random.default_rng())
        reasons = {model.card.name: reason for model, reason in ctx.models() if reason}
        texts = known_texts(ctx.database, [e.prompt_id for e in decision.evidence], snapshot.encoder)
    view = DecisionView.of(decision, None, reasons, texts)
    show(view, as_json, lambda: _render(view))


def _render(decision: DecisionView) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    head = Text()
    head.append(decision.model, style="bold green")
    head.append(f"\n{decision.why}\n")
    head.append(f"task: {decision.task.name} (probability {decision.task.probability:.2f})\n")
    head.append(f"snapshot {decision.snapshot}, feedback up to {decision.position}\n", style="dim")
    ranking = table(
        "candidates",
        {"model": "left", "quality": "right", "+-": "right", "$ per 1,000": "right", "utility": "right",
         "propensity": "right", "why not": "left"},
        [
            (
                c.model, f"{c.quality:.3f}", f"{c.stderr:.3f}", f"{1000 * c.cost:.3f}", f"{c.utility:.3f}",
                f"{c.propensity:.3f}", c.excluded or c.unavailable_reason or "",
            )
            for c in decision.candidates
        ],
    )  # fmt: skip
    if not decision.evidence:
        return Group(head, ranking)
    evidence = table(
        "nearest remembered prompts",
        {"similarity": "right", "prompt": "left", "scores": "left"},
        [
            (
                f"{e.similarity:.2f}",
                " ".join((e.text or e.prompt_id[:12]).split())[:80],
                ", ".join(
                    f"{m.split('/')[-1]} {s:.2f}" for m, s in sorted(e.scores.items(), key=lambda kv: -kv[1])[:4]
                ),
            )
            for e in decision.evidence
        ],
    )
    return Group(head, ranking, evidence)
