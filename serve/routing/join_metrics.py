"""Joins as metrics: how many models are in which state, how often each state was reached, and what joins have spent.

All of it is read from SQL, so that every replica says the same, also after a restart.
"""

from __future__ import annotations

from collections import Counter

from serve.metrics import Metrics
from serve.routing.pool_view import PoolView
from store.database import Database
from store.join_calls import JoinCalls
from store.joins import ONBOARDING, STATES, JoinStore


class JoinMetrics:
    """Keeps the metrics of joins up to date.

    Parameters
    ----------
    database
        Where joins are.
    metrics
        What is set.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._joins, self._calls, self._metrics = JoinStore(database), JoinCalls(database), metrics
        self._seen: PoolView | None = None

    def update(self, pool: PoolView) -> None:
        """Set the metrics where they may have changed: ``pool`` is another one than the last, or a join spends."""
        states = Counter(entry.model.state for entry in pool)
        if pool is self._seen and not any(states[state] for state in ONBOARDING):
            return
        steps = self._joins.steps()
        for state in STATES:
            self._metrics.models.labels(state).set(states[state])
            self._metrics.join_steps.labels(state).set(steps.get(state, 0))
        for model, usd in self._calls.spent_by_model().items():
            self._metrics.join_usd.labels(model).set(usd)
        self._seen = pool
