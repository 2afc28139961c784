"""What a model of the pool has changed since a time: quality and spend, beside what the other models would have done.

Without the model, a request that it answers would go to the best of the others. That is a policy too, so its value is estimated
from the log: doubly robust (`agent.evaluation.off_policy`) where the choice was left to chance, and by the decision's own
estimate of the other model where it was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.off_policy import ScoredChoices, Value, doubly_robust_terms, mean_value
from agent.types import Array, Candidate


@dataclass(frozen=True, slots=True)
class LoggedChoice:
    """A decision, and what came of it.

    Parameters
    ----------
    model
        That was chosen.
    candidates
        With quality, cost and propensity as they were then.
    score, score_weight
        Calibrated score and its weight; None and 0 where nobody scored the answer.
    usd
        What the call cost; None where it is not known.
    """

    model: str
    candidates: Sequence[Candidate]
    score: float | None = None
    score_weight: float = 0.0
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class RealisedEffect:
    """What a model has changed for a mean request.

    Parameters
    ----------
    requests, answered
        Decisions, and how many of them chose the model.
    quality, usd
        Difference in score, over the decisions that were scored, and in USD, over those whose cost is known.
    others_error
        By how much the scores of the other models' answers exceeded what was estimated of them. ``quality`` rests on such
        estimates: it assumes that they are right on average.
    """

    requests: int
    answered: int
    quality: Value
    usd: Value
    others_error: Value


OWN, BEST, REST = range(3)
"""Columns: the model, the best of the others, all further ones together."""


def realised_effect(model: str, choices: Sequence[LoggedChoice]) -> RealisedEffect:
    """The effect of ``model``; a decision in which it could not be chosen counts as one that it did not change.

    Examples
    --------
    >>> new = Candidate("new", quality=0.8, stderr=0.1, cost=0.002, utility=0.8, propensity=1.0)
    >>> old = Candidate("old", quality=0.6, stderr=0.1, cost=0.001, utility=0.6, propensity=0.0)
    >>> made = LoggedChoice("new", (new, old), score=0.9, score_weight=1.0, usd=0.003)
    >>> effect = realised_effect("new", [made, made])
    >>> effect.answered, round(effect.quality.mean, 3), round(effect.usd.mean, 4)
    (2, 0.3, 0.002)
    """
    rows = [_row(model, choice) for choice in choices]
    chosen = np.array([row.chosen for row in rows], np.int64)
    propensity = np.array([row.propensity for row in rows]).reshape(-1, 3)
    quality = np.array([row.quality for row in rows]).reshape(-1, 3)
    cost = np.array([row.cost for row in rows]).reshape(-1, 3)
    without = propensity[:, [OWN]] * np.array([1.0, -1.0, 0.0])  # with the model, less without it
    score = np.array([np.nan if c.score is None else c.score for c in choices])
    weight = np.array([c.score_weight for c in choices])
    usd = np.array([np.nan if c.usd is None else c.usd for c in choices])
    scored, paid = np.isfinite(score) & (weight > 0.0), np.isfinite(usd)
    others = scored & (chosen != OWN)
    estimated = quality[np.arange(len(rows)), chosen]
    return RealisedEffect(
        requests=len(rows),
        answered=int((chosen == OWN).sum()),
        quality=_difference(without, quality, ScoredChoices(chosen, score, weight, propensity), scored),
        usd=_difference(without, cost, ScoredChoices(chosen, usd, np.ones(len(rows)), propensity), paid),
        others_error=mean_value((score - estimated)[others], weight[others]),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    chosen: int
    propensity: tuple[float, float, float]
    quality: tuple[float, float, float]
    cost: tuple[float, float, float]


def _row(model: str, choice: LoggedChoice) -> _Row:
    """By `OWN`, `BEST` and `REST`; the figures of `REST` are those of the model chosen, if that is one of them."""
    eligible = {c.model: c for c in choice.candidates if c.excluded is None}
    own, took = eligible.get(model), eligible[choice.model]
    best = max((c for c in eligible.values() if c.model != model), key=lambda c: (c.utility, c.model), default=None)
    if own is None or best is None:  # nothing would have been otherwise
        return _Row(REST, (0.0, 0.0, 1.0), (0.0, 0.0, took.quality), (0.0, 0.0, took.cost))
    chosen = OWN if took is own else BEST if took is best else REST
    rest = max(1.0 - own.propensity - best.propensity, 0.0)
    if chosen == REST:
        rest = max(rest, took.propensity)
    return _Row(
        chosen,
        (own.propensity, best.propensity, rest),
        (own.quality, best.quality, took.quality if chosen == REST else 0.0),
        (own.cost, best.cost, took.cost if chosen == REST else 0.0),
    )


def _difference(policy: Array, expected: Array, log: ScoredChoices, rows: NDArray[np.bool_]) -> Value:
    """Mean over the ``rows`` whose outcome is known."""
    known = ScoredChoices(log.chosen[rows], log.score[rows], log.score_weight[rows], log.propensity[rows])
    return mean_value(doubly_robust_terms(policy[rows], expected[rows], known), known.score_weight)
