"""A token bucket per API key limits how many of its requests may be explored: a new key may explore a burst of requests,
later ones a fixed share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExplorationBudget:
    """``share``: explored requests per request in the long run, in [0, 1]; ``burst``: most tokens a key can hold."""

    share: float = 0.05
    burst: float = 200.0


class ExplorationLimiter:
    """Tokens of each key: an explored request costs one, every request adds ``share`` of one; a new key has ``burst``.

    Parameters
    ----------
    budget
        Of every key alike.

    Examples
    --------
    >>> limiter = ExplorationLimiter(ExplorationBudget(share=0.25, burst=1.0))
    >>> allowed = []
    >>> for _ in range(6):
    ...     allowed.append(limiter.may_explore("k"))
    ...     limiter.count("k", explored=allowed[-1])
    >>> allowed
    [True, False, False, False, True, False]
    """

    def __init__(self, budget: ExplorationBudget = ExplorationBudget()) -> None:
        self._budget = budget
        self._tokens: dict[str, float] = {}

    def may_explore(self, key: str) -> bool:
        """Whether a request of ``key`` may be explored."""
        return self._budget.share > 0.0 and self._tokens.get(key, self._budget.burst) >= 1.0

    def count(self, key: str, *, explored: bool) -> None:
        """Account for one request."""
        tokens = self._tokens.get(key, self._budget.burst) + self._budget.share - explored
        self._tokens[key] = min(tokens, self._budget.burst)
