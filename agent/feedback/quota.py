"""Rations: whoever speaks much of one task adds less and less, so that nobody can flood it.

Each rater, and each API key, has an allowance by task. A word counts by the share that is left of it, and uses up its own
weight; so the n-th equal word weighs about ``exp(-n / cap)``, and all together never more than the cap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class QuotaConfig:
    """What is allowed, in units of a clean evaluation.

    Parameters
    ----------
    rater, judge
        Most that one named rater may weigh on one task; a judge is the operator's, and rates everything.
    key
        Most that everything posted with one API key may weigh on one task.
    trusted_keys
        Keys without that cap.
    recovery
        Rows of the log in which a used-up allowance comes back to 1 - 1/e of its cap: over n rows, nobody weighs more
        than ``cap * (1 + n / recovery)``.
    """

    rater: float = 20.0
    judge: float = 200.0
    key: float = 200.0
    trusted_keys: tuple[str, ...] = ("bootstrap",)
    recovery: int = 20_000


class LogRow(Protocol):
    """What is rationed: a row of the log, by whom and about which task."""

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


QuotaKey = tuple[str, str]
"""(source, rater), or ("key", name of an API key)."""


@dataclass(slots=True)
class WeightQuota:
    """Every allowance: holder -> task -> (weight used up, at which row of the log)."""

    config: QuotaConfig = field(default_factory=QuotaConfig)
    used: dict[QuotaKey, dict[int, tuple[float, int]]] = field(default_factory=dict)

    def remaining(self, post: LogRow) -> float:
        """Share of its weight at which a word counts, in [0, 1]."""
        return math.prod(1.0 - min(self._used(holder, post) / cap, 1.0) for holder, cap in self._holders(post))

    def consume(self, post: LogRow, weight: float) -> None:
        """Use allowances up; a negative weight gives back what a revised word had used."""
        for holder, _ in self._holders(post):
            spent = max(self._used(holder, post) + weight, 0.0)
            self.used.setdefault(holder, {})[post.task] = (spent, post.seq)

    def forget(self, holder: QuotaKey) -> None:
        """Drop the allowances of a rater."""
        self.used.pop(holder, None)

    def state(self) -> list[Any]:
        """As JSON."""
        return [[*holder, [[task, *at] for task, at in tasks.items()]] for holder, tasks in self.used.items()]

    def restore(self, state: Iterable[Any]) -> None:
        """Take a `state` over."""
        self.used = {(scope, name): {task: (spent, seq) for task, spent, seq in tasks} for scope, name, tasks in state}

    def _holders(self, post: LogRow) -> Iterator[tuple[QuotaKey, float]]:
        """Whose allowances a word uses up, and their caps."""
        if post.rater:
            yield (post.source, post.rater), self.config.judge if post.source == "judge" else self.config.rater
        if post.key and post.key not in self.config.trusted_keys:
            yield ("key", post.key), self.config.key

    def _used(self, holder: QuotaKey, post: LogRow) -> float:
        spent, then = self.used.get(holder, {}).get(post.task, (0.0, post.seq))
        return spent * math.exp((then - post.seq) / self.config.recovery)
