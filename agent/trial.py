"""Routing on trial: of the requests on which two routers differ, a share is decided by a coin between their choices.

A *trial* compares the champion with a challenger that held-out evidence proves neither better nor worse, a *hold-back* a
champion that a refresh or a trial made with its predecessor. Either way the serving router is the ``champion`` and the other
one the ``challenger``; both learn from the same feedback. `agent.evaluation.trial` says when the experiment is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from agent.router import Router
from agent.types import Candidate, Decision, Encoded, RouteRequest, TrialChoice

TrialKind = Literal["trial", "hold-back"]


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment that is under way.

    Parameters
    ----------
    id
        Names it in `agent.types.TrialChoice`.
    kind
        What is tested: the challenger (``trial``), or the champion against its predecessor (``hold-back``).
    champion, challenger
        Versions of the serving snapshot and of the other one, in a hold-back the predecessor.
    share
        Of the requests on which the two differ, in (0, 1], that a coin decides.
    max_regret
        Utility that its coins may be expected to cost in one replica, summed over decisions; then no more are tossed.
    """

    id: int
    kind: TrialKind
    champion: int
    challenger: int
    share: float
    max_regret: float = math.inf


def route_on_trial(
    champion: Router,
    challenger: Router,
    trial: Trial,
    encoded: Encoded,
    request: RouteRequest,
    rng: np.random.Generator,
    *,
    explore: bool = True,
) -> Decision:
    """Choose a model as ``champion`` does, but where ``challenger`` would choose another one by a coin for some requests.

    Parameters
    ----------
    champion, challenger
        The serving router and the other one, of the same pool and encoder.
    trial
        How often the coin decides.
    encoded, request, rng
        See `agent.router.Router.route`, whose errors this raises.
    explore
        Whether the champion may explore beside: where an exploration budget is used up the coin is tossed all the same,
        since a trial has bounds of its own.

    Returns
    -------
    Decision
        The champion's. Where the best models of the two (by each one's own utility) differ and the request may be explored
        (and neither of these models is known to one snapshot alone: with the other it would count as a newcomer),
        the model is drawn from ``(1 - share) * (champion's propensities) + share * (1/2 for each of the two)``; the
        candidates' propensities are these, and ``trial`` is set. A choice of the coin does not count as explored.
    """
    decision = champion.route(encoded, replace(request, explore=request.explore and explore), rng)
    if not request.explore:
        return decision
    other = challenger.route(encoded, replace(request, explore=False), rng)
    mine, theirs = _eligible(decision), _eligible(other)
    pair = decision.candidates[0].model, other.model
    known = champion.snapshot.models, challenger.snapshot.models
    alike = all(model in mine and model in theirs and (model in known[0]) == (model in known[1]) for model in pair)
    if pair[0] == pair[1] or not alike:
        return decision

    propensity = {
        model: (1.0 - trial.share) * candidate.propensity + trial.share * 0.5 * (model in pair)
        for model, candidate in mine.items()
    }
    utility = {model: _mean_utility(mine[model], theirs.get(model)) for model in mine}
    regret = sum((mine[model].propensity - p) * utility[model] for model, p in propensity.items())
    names, weights = list(propensity), np.array(list(propensity.values()))
    model = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    choice = TrialChoice(trial.id, *pair, utility[pair[0]], utility[pair[1]], max(regret, 0.0))
    return replace(
        decision,
        model=model,
        candidates=tuple(replace(c, propensity=propensity.get(c.model, 0.0)) for c in decision.candidates),
        explored=model not in pair,
        why=_why(trial, choice, model, propensity[model]),
        trial=choice,
    )


def _eligible(decision: Decision) -> Mapping[str, Candidate]:
    return {c.model: c for c in decision.candidates if c.excluded is None}


def _mean_utility(one: Candidate, other: Candidate | None) -> float:
    """Quality less cost penalty, before shrinkage; the mean of two estimates where there are two."""
    estimates = [c.quality - c.cost_penalty for c in (one, other) if c is not None]
    return sum(estimates) / len(estimates)


def _why(trial: Trial, choice: TrialChoice, model: str, propensity: float) -> str:
    """In one sentence."""
    status = "which is on trial" if trial.kind == "trial" else "its predecessor, to test its promotion"
    return (
        f"{model} is drawn with propensity {propensity:.3f}: snapshot {trial.champion} would choose {choice.champion}, "
        f"snapshot {trial.challenger}, {status}, {choice.challenger} (utilities by the mean of both "
        f"{choice.champion_utility:.3f} and {choice.challenger_utility:.3f})"
    )
