"""How much of a key's traffic may be explored: a token bucket a key, so that a cold pool learns and a warm one keeps still."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExplorationBudget:
    """``share``: explored requests per request in the long run, in [0, 1]; ``burst``: how many may be saved up."""

    share: float = 0.05
    burst: float = 200.0


class ExplorationLimiter:
    """What each key has left to explore; a key seen for the first time has a full burst.

    Parameters
    ----------
    budget
        Of every key alike.

    Examples
    --------
    >>> limiter = ExplorationLimiter(ExplorationBudget(share=0.25, burst=1.0))
    >>> said = []
    >>> for _ in range(6):
    ...     said.append(limiter.may_explore("k"))
    ...     limiter.count("k", explored=said[-1])
    >>> said
    [True, False, False, False, True, False]
    """

    def __init__(self, budget: ExplorationBudget = ExplorationBudget()) -> None:
        self._budget = budget
        self._left: dict[str, float] = {}

    def may_explore(self, key: str) -> bool:
        """Whether a request of ``key`` may be explored."""
        return self._budget.share > 0.0 and self._left.get(key, self._budget.burst) >= 1.0

    def count(self, key: str, *, explored: bool) -> None:
        """Account for one request."""
        left = self._left.get(key, self._budget.burst) + self._budget.share - explored
        self._left[key] = min(left, self._budget.burst)
