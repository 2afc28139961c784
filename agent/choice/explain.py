"""Why a model is not eligible, why one was chosen, and why another was not: sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

from agent.choice.utility import ExpectedCosts
from agent.errors import InvalidInput, UnknownModel, did_you_mean
from agent.types import (
    TYPICAL_OUTPUT_TOKENS,
    UNKNOWN_TASK,
    CallForecast,
    Candidate,
    Decision,
    Encoded,
    ModelCard,
    RouteRequest,
    TaskAssignment,
)


def exclusions(
    cards: Sequence[ModelCard],
    costs: ExpectedCosts,
    forecasts: Sequence[CallForecast],
    encoded: Encoded,
    request: RouteRequest,
) -> list[str | None]:
    """For each card, why it cannot take the request; None where it is eligible.

    Parameters
    ----------
    costs, forecasts
        Of the request at each card.

    Raises
    ------
    UnknownModel
        Where ``request.candidates`` names a model that is not among ``cards``.
    InvalidInput
        Where the request's tradeoff is not within 0 and 1.
    """
    names = {card.name for card in cards}
    for i, name in enumerate(request.candidates or ()):
        if name not in names:
            raise UnknownModel(
                f"no model {name!r} in the pool{did_you_mean(name, names)}", param=f"thalweg.candidates[{i}]"
            )
    if not 0.0 <= request.cost_quality_tradeoff <= 1.0:
        raise InvalidInput(
            f"cost_quality_tradeoff is {request.cost_quality_tradeoff}, not within 0 (cheapest) and 1 (best)",
            param="thalweg.cost_quality_tradeoff",
        )
    needed = encoded.tokens + (request.output_tokens or TYPICAL_OUTPUT_TOKENS)
    return [
        _exclusion(card, mean, upper, needed, request) or _too_slow(forecast, request)
        for card, mean, upper, forecast in zip(cards, costs.mean.tolist(), costs.upper.tolist(), forecasts)
    ]


def _exclusion(card: ModelCard, cost: float, upper: float, needed: int, request: RouteRequest) -> str | None:
    if request.candidates is not None and card.name not in request.candidates:
        return "not among the request's candidates"
    if card.resting is not None and request.candidates is None:
        return card.resting
    if missing := sorted(request.requires - card.capabilities):
        return f"lacks {', '.join(missing)}"
    if card.context < needed:
        return f"context of {card.context:,} tokens is shorter than the {needed:,} needed"
    if not card.available and not request.include_unavailable:
        return "unavailable"
    if request.max_cost is not None and upper > request.max_cost:
        return (
            f"one such call in ten is expected to cost more than ${upper:.6f}, which is above max_cost "
            f"(${request.max_cost:g}); the mean is ${cost:.6f}"
        )
    return None


def _too_slow(forecast: CallForecast, request: RouteRequest) -> str | None:
    mean, upper = forecast.latency_ms, forecast.latency_ms_upper
    if request.deadline_s is None or mean is None or upper is None or upper <= 1e3 * request.deadline_s:
        return None
    return (
        f"one call in ten takes longer than {upper / 1e3:.2f} s, which is above deadline_s "
        f"({request.deadline_s:g} s); the mean is {mean / 1e3:.2f} s"
    )


def explain(candidates: Sequence[Candidate], model: str, task: TaskAssignment) -> str:
    """Why ``model`` was chosen among ``candidates`` (ranked), in one sentence."""
    chosen = next(c for c in candidates if c.model == model)
    best, others = candidates[0], [c for c in candidates[1:] if c.excluded is None]
    known = f"task {task.id} ({task.name}, p={task.probability:.2f})"
    where = "a prompt unlike every task" if task.id == UNKNOWN_TASK else known
    if model != best.model:
        return (
            f"{model} is explored with propensity {chosen.propensity:.3f} on {where}: its utility is {chosen.utility:.3f}, "
            f"{best.model} leads with {best.utility:.3f}"
        )
    ahead = f", {best.utility - others[0].utility:.3f} ahead of {others[0].model}" if others else ", the only candidate"
    return f"{model} is best on {where}: {_figures(chosen)}{ahead}"


def why_not(candidate: Candidate, decision: Decision) -> str | None:
    """Why ``candidate`` was not chosen, in one sentence; None for the one that was."""
    chosen = decision.chosen
    if candidate.model == chosen.model:
        return None
    if candidate.excluded:
        return candidate.excluded
    against = f"{_figures(candidate)}, against {chosen.model} with {_figures(chosen)}"
    if candidate.caution and candidate.utility + candidate.caution > chosen.utility:
        return f"too little is known of it to lead, so it is explored until scores speak for it: {against}"
    if candidate.utility > chosen.utility:
        return f"this request explored: its own chance was {candidate.propensity:.1%}; {against}"
    if candidate.quality - candidate.cost_penalty >= chosen.quality - chosen.cost_penalty:
        return f"its lead on this prompt is within what estimates err by, and over all prompts it is worse: {against}"
    if candidate.quality >= chosen.quality:
        return f"not worth its price at this tradeoff: {against}"
    if candidate.quality + 1.96 * candidate.stderr >= chosen.quality:
        return f"probably worse, though it may be as good: {against}"
    return f"worse: {against}"


def _figures(candidate: Candidate) -> str:
    """The terms of its utility, with the 95 % interval of its quality."""
    c, terms = candidate, ""
    if c.shrinkage:
        terms += f" {'-' if c.shrinkage < 0.0 else '+'} {abs(c.shrinkage):.3f} shrinkage"
    if c.cost_penalty:
        terms += f" - {c.cost_penalty:.3f} for ${c.cost:.2g}"
    if c.caution:
        terms += f" - {c.caution:.3f} for how little is known of it"
    return f"utility {c.utility:.3f} = quality {c.quality:.3f} (95 % ± {1.96 * c.stderr:.3f}){terms}"
