"""Limits of exploration: a token bucket per API key, and a budget per model.

A new key may explore a burst of requests, later ones a fixed share. Beside that a model, whoever asks, may only cost so much
expected utility until its scores, or more feedback, pay for more: where nobody scores, exploration of a model ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.types import Decision


@dataclass(frozen=True, slots=True)
class ExplorationBudget:
    """How much may be explored.

    Parameters
    ----------
    share
        Explored requests per request of a key in the long run, in [0, 1].
    burst
        Most tokens that a key can hold.
    regret
        Most utility that exploring one newcomer may be expected to cost at a time, in a replica.
    income
        What every row of the feedback log adds to that again.
    unscored
        What an exploration counts beside its price, until scores of the model come in.
    answers
        Explorations for which one score pays: one in so many is expected to be scored.
    """

    share: float = 0.05
    burst: float = 200.0
    regret: float = 2.0
    income: float = 0.0005
    unscored: float = 0.1
    answers: float = 5.0


@dataclass(slots=True)
class _Trials:
    """What a model has left of its budget, its explorations without scores, and its scores when last looked at."""

    left: float
    unscored: float = 0.0
    n_scores: float = 0.0


class ExplorationLimiter:
    """Tokens of each key: an explored request costs one, every request adds ``share`` of one; a new key has ``burst``.

    A replica has one; it is not shared, and a restart begins anew.

    Parameters
    ----------
    budget
        Of every key and every model alike.
    """

    def __init__(self, budget: ExplorationBudget = ExplorationBudget()) -> None:
        self._budget = budget
        self._tokens: dict[str, float] = {}
        self._trials: dict[str, _Trials] = {}
        self._position: int | None = None

    def may_explore(self, key: str) -> bool:
        """Whether a request of ``key`` may be explored."""
        return self._budget.share > 0.0 and self._tokens.get(key, self._budget.burst) >= 1.0

    def affordable(self, n_scores: Mapping[str, float], position: int) -> dict[str, float]:
        """model -> most utility that exploring it as a newcomer may be expected to cost now; below 0: not to be explored.

        Parameters
        ----------
        n_scores
            model -> its scores, of the pool.
        position
            In the feedback log.
        """
        b = self._budget
        income = b.income * max(position - (position if self._position is None else self._position), 0)
        self._position = position
        for model, n in n_scores.items():
            trials = self._trials.setdefault(model, _Trials(b.regret, n_scores=n))
            trials.left = min(trials.left + income, b.regret)
            trials.unscored = max(trials.unscored - b.answers * max(n - trials.n_scores, 0.0), 0.0)
            trials.n_scores = n
        return {model: self._affordable(self._trials[model]) for model in n_scores}

    def _affordable(self, trials: _Trials) -> float:
        waiting = self._budget.unscored * (trials.unscored + 1.0)
        return max(trials.left - waiting, 0.0) if waiting <= self._budget.regret else -1.0

    def count(self, key: str, decision: Decision) -> None:
        """Account for one request."""
        b, chosen = self._budget, decision.chosen
        tokens = self._tokens.get(key, b.burst) + b.share - decision.explored
        self._tokens[key] = min(tokens, b.burst)
        trials = self._trials.get(chosen.model)
        if decision.explored and trials is not None:
            trials.left = max(trials.left - decision.price(chosen), 0.0)
            trials.unscored += 1.0
