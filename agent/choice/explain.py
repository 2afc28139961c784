"""Why a model cannot take a request, and why one was chosen: for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from agent.choice.utility import TYPICAL_OUTPUT_TOKENS
from agent.errors import InvalidInput, UnknownModel, did_you_mean
from agent.types import UNKNOWN_TASK, Candidate, Encoded, ModelCard, RouteRequest, TaskAssignment


def exclusions(cards: Sequence[ModelCard], encoded: Encoded, request: RouteRequest) -> list[str | None]:
    """For each card, why it cannot take the request; None where it can."""
    names = {card.name for card in cards}
    for i, name in enumerate(request.candidates or ()):
        if name not in names:
            hint = did_you_mean(name, names)
            raise UnknownModel(f"no model {name!r} in the pool{hint}", param=f"thalweg.candidates[{i}]")
    if not 0.0 <= request.cost_quality_tradeoff <= 1.0:
        raise InvalidInput(
            f"cost_quality_tradeoff is {request.cost_quality_tradeoff}, not within 0 (cheapest) and 1 (best)",
            param="thalweg.cost_quality_tradeoff",
        )
    needed = encoded.tokens + (request.output_tokens or TYPICAL_OUTPUT_TOKENS)
    return [exclusion(card, needed, request) for card in cards]


def exclusion(card: ModelCard, needed: int, request: RouteRequest) -> str | None:
    """Why one card cannot take a request of ``needed`` tokens; None where it can."""
    if request.candidates is not None and card.name not in request.candidates:
        return "not among the request's candidates"
    missing = sorted(request.requires - card.capabilities)
    if missing:
        return f"lacks {', '.join(missing)}"
    if card.context < needed:
        return f"context of {card.context:,} tokens is shorter than the {needed:,} needed"
    if not card.available and not request.include_unavailable:
        return "unavailable"
    return None


def explain(ranked: Sequence[Candidate], model: str, task: TaskAssignment, price: float) -> str:
    """One sentence: why this model."""
    chosen = next(c for c in ranked if c.model == model)
    best, others = ranked[0], [c for c in ranked[1:] if c.excluded is None]
    known = f"task {task.id} ({task.name}, p={task.probability:.2f})"
    where = "a prompt unlike every task" if task.id == UNKNOWN_TASK else known
    if model != best.model:
        return (
            f"{model} is explored with propensity {chosen.propensity:.3f} on {where}: its utility is {chosen.utility:.3f}, "
            f"{best.model} leads with {best.utility:.3f}"
        )
    ahead = f", {best.utility - others[0].utility:.3f} ahead of {others[0].model}" if others else ", the only candidate"
    weighed = "" if price == 0.0 else f" less cost (${chosen.cost:.6f} at {price:.4g} quality a dollar)"
    return f"{model} is best on {where}: quality {chosen.quality:.3f} +- {chosen.stderr:.3f}{weighed}{ahead}"
