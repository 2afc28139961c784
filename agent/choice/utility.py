"""``utility = quality - lambda * cost``: shrunken quality, the expected cost of a request, and lambda.

The model that looks best on a prompt is often the one whose estimate erred most in its favour (the optimizer's curse: Smith
& Winkler 2006), so estimates are first drawn toward the models' overall means. The share by which they are drawn is fitted to
what choices by out-of-fold estimates earned; it fades as cost grows in importance, since cost then separates models whose
qualities are nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.examples import Scores
from agent.types import Array, CallForecast, ModelCard, RouteRequest

EVEN_PREMIUM = 0.25
"""At a tradeoff of one half, the pool's dearest model must be this much better than a free one to be chosen."""


_MAX_PREMIUM = 1e6


@dataclass(frozen=True, slots=True)
class ExpectedCosts:
    """USD of a request at each of K models: ``mean`` (K,), and ``upper`` (K,), which nine of ten calls stay within."""

    mean: Array
    upper: Array


def expected_costs(
    cards: Sequence[ModelCard],
    tokens: int,
    request: RouteRequest,
    forecasts: Sequence[CallForecast],
    snapshot_cost: Array,
    snapshot_upper: Array,
) -> ExpectedCosts:
    """What a request costs at each of ``cards``; the one cost model of routing, ``max_cost`` and evaluation.

    A model whose costs the snapshot knows from evaluations costs what the snapshot says of this prompt, times the ratio of
    true to expected cost in the outcomes of its calls. Another costs the prompt's ``tokens``, as its provider counts them,
    and the expected length of its answers at list price. Where the request limits the answer, no model costs more than an
    answer of that length.

    Parameters
    ----------
    forecasts
        Of each card.
    snapshot_cost, snapshot_upper
        (K,) USD of the snapshot's cost model, and what nine of ten calls stay within by it; NaN where it knows none.
    """
    limit = math.inf if request.output_tokens is None else float(request.output_tokens)
    known: list[tuple[float, float]] = []  # a loop: arrays of a dozen models take longer
    for card, forecast, own, own_upper in zip(cards, forecasts, snapshot_cost.tolist(), snapshot_upper.tolist()):
        given = tokens * forecast.input_ratio * card.price_input / 1e6
        if math.isnan(own):
            at = card.price_output / 1e6
            mean = given + min(forecast.output_tokens, limit) * at
            upper = given + min(forecast.output_tokens_upper, limit) * at
        else:
            weight = forecast.cost_weight
            mean = own + weight * own * (forecast.cost_ratio - 1.0)
            upper = own_upper + weight * (own * forecast.cost_ratio_upper - own_upper)
            if card.price_output > 0.0:
                longest = given + limit * card.price_output / 1e6
                mean, upper = min(mean, longest), min(upper, longest)
        known.append((mean, max(mean, upper)))
    costs = np.array(known, np.float64).reshape(-1, 2)
    return ExpectedCosts(costs[:, 0], costs[:, 1])


def cost_weight(tradeoff: float, dearest: float) -> float:
    """Lambda, in quality per USD.

    Parameters
    ----------
    tradeoff
        0 = cheapest, 1 = best quality; ``lambda * dearest = EVEN_PREMIUM * (1 - tradeoff) / tradeoff``.
    dearest
        Expected USD of this request at the pool's dearest model; scales lambda to the pool's prices.

    Examples
    --------
    >>> cost_weight(1.0, 0.01)
    0.0
    >>> cost_weight(0.5, 0.01)
    25.0
    """
    if tradeoff >= 1.0 or dearest <= 0.0:
        return 0.0
    premium = EVEN_PREMIUM * (1.0 - tradeoff) / tradeoff if tradeoff > 0.0 else _MAX_PREMIUM
    return min(premium, _MAX_PREMIUM) / dearest


def dearest_extra(tradeoff: float, cost: Array, cost_penalty: Array) -> Array:
    """(K,) what a trial of the dearest model costs beyond its ``cost_penalty``, where lambda is scaled by the others.

    Lambda is scaled by the dearest model, so that the penalty of one that is dearer by far is never more than that of another
    dearest one. That is right for a choice by quality; to learn about it, only what the others cost is the measure.

    Parameters
    ----------
    tradeoff
        As in `cost_weight`.
    cost, cost_penalty
        (K,) USD, and lambda times that.
    """
    out: Array = np.zeros(len(cost))
    if len(cost) > 1:
        at = int(cost.argmax())
        out[at] = max(cost_weight(tradeoff, float(np.delete(cost, at).max())) * cost[at] - cost_penalty[at], 0.0)
    return out


SHARES = np.linspace(0.0, 0.9, 10)
"""Shares that are compared; 0 leaves estimates as they are."""


PRIOR_MEAN = 0.5
"""A share's prior density is that of an exponential distribution with this mean."""


FADE = 0.005
"""Cost penalty of a typical request at which the share has fallen to 1/e."""


MIN_PROMPTS = 30
"""With fewer prompts that have scores of several models, the prior's mean is returned."""


def fit_shrinkage(estimate: Array, overall: Array, scores: Scores) -> float:
    """Posterior mean of the share, in [0, 0.9], given what each share's choices earned.

    Parameters
    ----------
    estimate
        (n, m) out-of-fold estimates.
    overall
        (m,) means over all prompts.
    scores
        Of the n prompts; prompts with fewer than two scores of weight 1 are not used.
    """
    if not scores.seen.any():
        return 0.0  # estimates made of published figures alone have no errors to learn from yet
    rows = np.flatnonzero((scores.score_weight == 1.0).sum(axis=1) >= 2)
    prior = np.exp(-SHARES / PRIOR_MEAN)
    if len(rows) < MIN_PROMPTS:
        return float(prior @ SHARES / prior.sum())
    seen, value, estimate = scores.score_weight[rows] == 1.0, scores.value[rows], estimate[rows]

    def earned(share: float) -> Array:
        choice = np.where(seen, shrink_to_mean(estimate, overall, share), -np.inf).argmax(axis=1)
        return np.asarray(value[np.arange(len(value)), choice], np.float64)

    earnings = np.array([earned(share) for share in SHARES])  # (shares, n)
    short = earnings[earnings.mean(axis=1).argmax()] - earnings
    errors = np.maximum(short.std(axis=1) / np.sqrt(len(rows)), 1e-9)
    posterior = prior * np.exp(-0.5 * (short.mean(axis=1) / errors) ** 2)
    return float(posterior @ SHARES / posterior.sum())


def fit_optimism(estimate: Array, overall: Array, share: float, scores: Scores) -> float:
    """By how much the estimate of the model that leads is too high on average, since it leads; at least 0.

    It is what `shrinkage` by ``share`` takes off it on the prompts that `fit_shrinkage` uses, whose arguments these are; 0
    where there are few. Sources of feedback are calibrated by what is expected less this; else honest ones would seem harsh.
    """
    rows = np.flatnonzero((scores.score_weight == 1.0).sum(axis=1) >= 2)
    if len(rows) < MIN_PROMPTS:
        return 0.0
    lead = shrink_to_mean(estimate[rows], overall, share).argmax(axis=1)
    return max(float(share * (estimate[rows, lead] - overall[lead]).mean()), 0.0)


def shrink_to_mean(quality: Array, overall: Array, share: float, cost_penalty: float = 0.0) -> Array:
    """(n, m) ``quality`` moved by `shrinkage`."""
    out: Array = quality + shrinkage(quality, overall, share, cost_penalty)
    return out


def shrinkage(quality: Array, overall: Array, share: float, cost_penalty: float) -> Array:
    """(n, m) by how much ``quality`` is drawn toward ``overall`` (m,); ``cost_penalty`` is that of a typical request."""
    out: Array = share * np.exp(-cost_penalty / FADE) * (overall - quality)
    return out
