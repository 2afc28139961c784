"""What leaving a model out of the pool would save or cost, from logged decisions.

Without the model, the share of each request that it had would have gone to the best of the others, by the utilities that the
decision itself estimated. What that changes in quality is doubly robust on the decisions that were scored (`off_policy`), and
in cost as the decisions expected it. Of a model that answered, its own scores correct the estimates; of the one that would have
answered in its place, the scores where that one was explored do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.logged import LoggedDecisions
from agent.evaluation.off_policy import Value, doubly_robust_terms, mean_value
from agent.types import Array, Candidate

TOLERANCE = 0.005
"""Loss of utility, on average over a task's requests, up to which the task does not need a model; the same in quality."""

MIN_SCORED = 30
"""Scored decisions without which nothing is suggested."""


@dataclass(frozen=True, slots=True)
class Choices:
    """n decisions among m models, as they were estimated; all arrays (n, m) but ``task`` (n,).

    Costs are USD, 0 where not known; of a model that was not eligible everything is 0.
    """

    models: tuple[str, ...]
    eligible: NDArray[np.bool_]
    propensity: Array
    quality: Array
    cost: Array
    cost_penalty: Array
    task: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loss:
    """What leaving a ``model`` out would change.

    Parameters
    ----------
    share
        Of the requests, that the model gets.
    quality
        Change of the mean score of a request: doubly robust, on the scored decisions.
    quality_expected
        The same as all decisions estimated it.
    cost
        Change of USD a request.
    alone
        Decisions in which nothing else was eligible.
    tasks
        Ids of the tasks that need it: without it, their requests lose more than `TOLERANCE` of utility.
    """

    model: str
    share: float
    quality: Value
    quality_expected: Value
    cost: Value
    alone: int
    tasks: tuple[int, ...]

    @property
    def advice(self) -> Literal["keep", "leave out", "not sure"]:
        """``keep``, ``leave out``, or ``not sure``."""
        if self.alone or self.tasks:
            return "keep"
        enough = self.quality.n >= MIN_SCORED and self.quality.interval()[0] >= -TOLERANCE
        return "leave out" if enough else "not sure"


def choices(rows: Sequence[tuple[int, Sequence[Candidate]]]) -> Choices:
    """Decisions, each with its task and its candidates, as arrays; those with a choice between models."""
    kept = [(task, [c for c in ranked if c.excluded is None]) for task, ranked in rows]
    kept = [(task, ranked) for task, ranked in kept if ranked]
    models = tuple(sorted({c.model for _, ranked in kept for c in ranked}))
    column = {model: j for j, model in enumerate(models)}
    eligible, values = np.zeros((len(kept), len(models)), np.bool_), np.zeros((4, len(kept), len(models)))
    for i, (_, ranked) in enumerate(kept):
        at = [column[c.model] for c in ranked]
        eligible[i, at] = True
        values[:, i, at] = np.array([(c.propensity, c.quality, c.cost, c.cost_penalty) for c in ranked]).T
    propensity, quality, cost, cost_penalty = np.nan_to_num(values)
    task = np.array([task for task, _ in kept], np.int64)
    return Choices(models, eligible, propensity, quality, cost, cost_penalty, task)


def losses(decided: Choices, scored: LoggedDecisions, models: Sequence[str]) -> list[Loss]:
    """What leaving out each of ``models`` would change, alone; those with the smallest share first."""
    found = [_loss(decided, scored, model) for model in models]
    return sorted(found, key=lambda loss: (loss.share, loss.model))


def _loss(decided: Choices, scored: LoggedDecisions, model: str) -> Loss:
    moved, alone = _moved(decided, model)
    utility = (moved * (decided.quality - decided.cost_penalty)).sum(axis=1)
    led = _moved(decided, model, greedy=True)[0]  # as if nothing was explored
    greedy = (led * (decided.quality - decided.cost_penalty)).sum(axis=1)
    sizes: Mapping[int, float] = {t: float(greedy[decided.task == t].mean()) for t in np.unique(decided.task).tolist()}
    among_scored = _moved(scored, model)[0]
    terms = doubly_robust_terms(among_scored, scored.quality, scored)
    even = np.ones(len(utility))
    return Loss(
        model=model,
        share=float(_column(decided, model, decided.propensity).mean()) if len(utility) else 0.0,
        quality=mean_value(terms, scored.score_weight),
        quality_expected=mean_value((moved * decided.quality).sum(axis=1), even),
        cost=mean_value((moved * decided.cost).sum(axis=1), even),
        alone=int(alone.sum()),
        tasks=tuple(task for task, change in sizes.items() if change < -TOLERANCE),
    )


def _column(log: Choices | LoggedDecisions, model: str, values: Array) -> Array:
    """(n,) the model's ``values``; 0 where it is no column."""
    out: Array = values[:, log.models.index(model)] if model in log.models else np.zeros(len(values))
    return out


def _moved(log: Choices | LoggedDecisions, model: str, greedy: bool = False) -> tuple[Array, NDArray[np.bool_]]:
    """(n, m) change of the choice probabilities without the model, and (n,) where it was the only one that was eligible.

    ``greedy``: of the policy that chooses the best.
    """
    n = len(log.propensity)
    out = np.zeros((n, len(log.models)))
    if model not in log.models or not n:
        return out, np.zeros(n, np.bool_)
    j, utility = log.models.index(model), np.where(log.eligible, log.quality - log.cost_penalty, -np.inf)
    leads = utility.argmax(axis=1) == j
    utility[:, j] = -np.inf
    others = np.isfinite(utility).any(axis=1)
    share = np.where(others, leads if greedy else log.propensity[:, j], 0.0)
    out[np.arange(n), utility.argmax(axis=1)] = share
    out[:, j] = -share
    return out, log.eligible[:, j] & ~others
