"""Weight quotas: a rater, or an API key, adds less and less weight to one task, and never more than its cap.

A rating counts by the share of the quota that remains, and consumes its own weight; so the n-th equal rating weighs about
``exp(-n / cap)``. Quotas recover with the rows of the log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class QuotaConfig:
    """Caps on weight, in units of a clean evaluation.

    Parameters
    ----------
    rater, judge
        Of one named rater on one task; a judge is the operator's, as evaluations are, and rates everything.
    key
        Of everything posted with one API key on one task.
    trusted_keys
        Keys without that cap.
    recovery
        Rows of the log in which a used-up quota recovers to 1 - 1/e of its cap: over n rows, nobody weighs more than
        ``cap * (1 + n / recovery)``.
    """

    rater: float = 20.0
    judge: float = 200.0
    key: float = 200.0
    trusted_keys: tuple[str, ...] = ("bootstrap",)
    recovery: int = 20_000


class LogRow(Protocol):
    """What a quota depends on: a row of the log, by whom and on which task."""

    @property
    def seq(self) -> int: ...
    @property
    def task(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def rater(self) -> str: ...
    @property
    def key(self) -> str | None: ...


_RECOVERED = 15.0
"""A use of so many `QuotaConfig.recovery` ago is forgotten: e**-15 of it is left."""

QuotaKey = tuple[str, str]
"""(source, rater), or ("key", name of an API key)."""


@dataclass(slots=True)
class WeightQuota:
    """Every quota: its key -> task -> (weight used, as of which row of the log), the task used last at the end.

    Tasks come and go, and whoever rates for ever would hold all of them: a use that has recovered is forgotten.
    """

    config: QuotaConfig = field(default_factory=QuotaConfig)
    used: dict[QuotaKey, dict[int, tuple[float, int]]] = field(default_factory=dict)

    def remaining(self, row: LogRow) -> float:
        """Factor on the weight of ``row``, in [0, 1]: the product of the shares that its quotas have left."""
        return math.prod(1.0 - min(self._used(key, row) / cap, 1.0) for key, cap in self._caps(row))

    def consume(self, row: LogRow, weight: float) -> None:
        """Charge ``weight`` to the quotas of ``row``; a negative weight gives back what a revised rating consumed."""
        for key, _ in self._caps(row):
            used = max(self._used(key, row) + weight, 0.0)
            self._put(key, row.task, (used, row.seq))

    def touched(self, row: LogRow) -> WeightQuota:
        """A copy of what `consume` changes for ``row``, for `update`."""
        keys = [key for key, _ in self._caps(row) if row.task in self.used.get(key, {})]
        return WeightQuota(self.config, {key: {row.task: self.used[key][row.task]} for key in keys})

    def update(self, other: WeightQuota) -> None:
        """Take over what ``other`` holds."""
        for key, tasks in other.used.items():
            for task, used in tasks.items():
                self._put(key, task, used)

    def state(self) -> list[Any]:
        """As JSON."""
        return [[*key, [[task, *at] for task, at in tasks.items()]] for key, tasks in self.used.items()]

    def restore(self, state: Iterable[Any]) -> None:
        """Replace all quotas by those of a `state`."""
        self.used = {(scope, name): {task: (used, seq) for task, used, seq in tasks} for scope, name, tasks in state}

    def _put(self, key: QuotaKey, task: int, used: tuple[float, int]) -> None:
        """Set the use of a task; drop those of the key that have recovered by then."""
        tasks = self.used.setdefault(key, {})
        tasks.pop(task, None)
        tasks[task] = used
        while next(iter(tasks.values()))[1] < used[1] - _RECOVERED * self.config.recovery:
            del tasks[next(iter(tasks))]

    def _caps(self, row: LogRow) -> Iterator[tuple[QuotaKey, float]]:
        if row.rater:
            yield (
                (row.source, row.rater),
                self.config.rater if row.source in ("user", "implicit") else self.config.judge,
            )
        if row.key and row.key not in self.config.trusted_keys:
            yield ("key", row.key), self.config.key

    def _used(self, key: QuotaKey, row: LogRow) -> float:
        """Weight used on the row's task, as far as it has not recovered by then."""
        used, then = self.used.get(key, {}).get(row.task, (0.0, row.seq))
        return used * math.exp((then - row.seq) / self.config.recovery)
