"""Outcomes of calls as streams: output tokens, latency, cost and failures of each model, with upper quantiles.

Every stream is a window of River's (Montiel et al. 2021) over a model's latest outcomes: it forgets what is old, its memory
is bounded, and it is a function of the last `WINDOW` rows of the outcome log that hold its figure, so that a replica that
starts reads these rows alone and knows what the others know. A card's ``output_tokens``, or `TYPICAL_OUTPUT_TOKENS`, counts
as `PRIOR_WEIGHT` outcomes beside them.

Of a model whose cost the snapshot estimates for each prompt, the stream is the ratio of true to estimated cost; of another
it is the length of its answers, by task where the task has outcomes, shrunk to the model's mean.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from river import stats, utils

from agent.observations import CallOutcome
from agent.types import TYPICAL_OUTPUT_TOKENS, UPPER, UPPER_RATIO, CallForecast, ModelCard

WINDOW = 300
"""Latest outcomes of a model that each of its streams holds."""

PRIOR_WEIGHT = 10.0
"""Outcomes that a card's hint counts as."""

SNAPSHOT_WEIGHT = 30.0
"""Outcomes that the snapshot's cost model counts as, which rests on evaluations."""

TASK_WEIGHT = 30.0
"""Outcomes that a model's mean length over all tasks counts as in that of a task."""

OUTLIER = 5.0
"""A value above so many times the upper quantile counts as that in a mean: one answer that ran on for ever is no trend."""


class _Stream:
    """Mean and upper quantile of the last `WINDOW` values."""

    def __init__(self) -> None:
        self._mean = utils.Rolling(stats.Mean, window_size=WINDOW)
        self._upper = stats.RollingQuantile(UPPER, window_size=WINDOW)
        self.n = 0

    def update(self, value: float) -> None:
        self._mean.update(value)
        self._upper.update(value)
        self.n = min(self.n + 1, WINDOW)

    @property
    def mean(self) -> float | None:
        """None without values, as is `upper`."""
        return float(self._mean.get()) if self.n else None

    @property
    def upper(self) -> float | None:
        return float(self._upper.get() or 0.0) if self.n else None


class _Parts:
    """The last `WINDOW` pairs of a part and what it is measured by (1 for lengths), and the upper quantile of their ratios."""

    def __init__(self) -> None:
        self._upper = stats.RollingQuantile(UPPER, window_size=WINDOW)
        self._rows: deque[tuple[int, float, float]] = deque(maxlen=WINDOW)

    def update(self, task: int, value: float, of: float = 1.0) -> None:
        self._upper.update(value / of)
        self._rows.append((task, value, of))

    def summary(self) -> _Summary:
        upper, n, sums = float(self._upper.get() or 0.0), len(self._rows), dict[int, tuple[int, float]]()
        most, total, of_total = OUTLIER * upper, 0.0, 0.0
        for task, value, of in self._rows:
            part = min(value, most * of)
            total, of_total = total + part, of_total + of
            count, sum_ = sums.get(task, (0, 0.0))
            sums[task] = count + 1, sum_ + part
        return _Summary(n, total / of_total if n else 1.0, upper if n else 1.0, sums)


class _Summary(NamedTuple):
    """Number of pairs, the ratio of their sums without outliers, the upper quantile; task -> number and sum of its parts."""

    n: int
    ratio: float
    upper: float
    by_task: Mapping[int, tuple[int, float]]


_NONE = _Summary(0, 1.0, 1.0, {})


@dataclass(slots=True)
class _Model:
    """The streams of one model; ``rows`` are the positions of what they hold."""

    tokens: _Parts = field(default_factory=_Parts)
    cost: _Parts = field(default_factory=_Parts)
    latency: _Stream = field(default_factory=_Stream)
    failed: _Stream = field(default_factory=_Stream)
    rows: dict[str, deque[int]] = field(default_factory=dict)
    lengths: _Summary = _NONE
    ratios: _Summary = _NONE
    others: tuple[float | None, float | None, float | None, int] = (None, None, None, 0)
    made: dict[tuple[float, int], CallForecast] = field(default_factory=dict)  # since the last row

    def learn_one(self, row: CallOutcome) -> None:
        ok = row.status == "ok"
        self.failed.update(float(not ok))
        self._note("calls", row.seq)
        if ok and row.latency_ms is not None:
            self.latency.update(row.latency_ms)
            self._note("latency", row.seq)
        if ok and row.output_tokens is not None:
            self.tokens.update(row.task, float(row.output_tokens))
            self._note("tokens", row.seq)
        if row.priced and row.cost_usd is not None and row.snapshot_cost is not None:
            self.cost.update(row.task, row.cost_usd, row.snapshot_cost)
            self._note("cost", row.seq)

    def _note(self, stream: str, seq: int) -> None:
        self.rows.setdefault(stream, deque(maxlen=WINDOW)).append(seq)

    def summarize(self) -> None:
        """To be called after the last of some rows, so that `forecast`, which every decision calls, has little to do."""
        self.lengths, self.ratios = self.tokens.summary(), self.cost.summary()
        self.others = self.latency.mean, self.latency.upper, self.failed.mean, self.failed.n
        self.made = {}  # a reader may still fill the old one

    def forecast(self, hint: float, task: int) -> CallForecast:
        made, key = self.made, (hint, task)
        if (found := made.get(key)) is None:
            found = made[key] = self._forecast(hint, task)
        return found

    def _forecast(self, hint: float, task: int) -> CallForecast:
        n, level, upper, by_task = self.lengths
        mean = (PRIOR_WEIGHT * hint + n * level) / (PRIOR_WEIGHT + n)
        upper = (PRIOR_WEIGHT * hint * UPPER_RATIO + n * upper) / (PRIOR_WEIGHT + n)
        n_task, total = by_task.get(task, (0, 0.0))
        expected = (TASK_WEIGHT * mean + total) / (TASK_WEIGHT + n_task)
        n_priced, ratio, ratio_upper, _ = self.ratios
        return CallForecast(
            expected, upper * expected / mean if mean > 0.0 else upper, ratio, ratio_upper,
            n_priced / (n_priced + SNAPSHOT_WEIGHT), *self.others,
        )  # fmt: skip


class OutcomeStatistics:
    """What is known of the models' calls: a function of the outcome log's rows, in order.

    Attributes
    ----------
    position
        Of the last row that was learned.

    Notes
    -----
    One thread learns; another may read meanwhile, and sees a row's figures whole or in part.

    Examples
    --------
    >>> known = OutcomeStatistics()
    >>> thinker = ModelCard("v/thinker", output_tokens=2000)
    >>> known.forecast(thinker).output_tokens
    2000.0
    >>> known.learn_many([CallOutcome(n, "v/thinker", 0, "ok", output_tokens=5000) for n in range(1, 31)])
    >>> known.forecast(thinker).output_tokens
    4250.0
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self.position = 0

    def learn_many(self, rows: Sequence[CallOutcome]) -> None:
        """Learn rows of the log, in order; those at or before `position` are skipped."""
        changed = {}
        for row in rows:
            if row.seq > self.position:
                changed[row.model] = self._models.setdefault(row.model, _Model())
                changed[row.model].learn_one(row)
                self.position = row.seq
        for model in changed.values():
            model.summarize()

    def forecast(self, card: ModelCard, task: int | None = None) -> CallForecast:
        """What is expected of the next call to a model, on a prompt of ``task`` where that is known."""
        hint = float(card.output_tokens or TYPICAL_OUTPUT_TOKENS)
        found = self._models.get(card.name)
        if found is None:
            return CallForecast(hint, hint * UPPER_RATIO)
        return found.forecast(hint, -1 if task is None else task)

    def digest(self) -> str:
        """A hash of the rows that the streams hold, equal on replicas that have read the same log, from whatever row on."""
        held = [(name, sorted((k, list(v)) for k, v in m.rows.items())) for name, m in sorted(self._models.items())]
        return hashlib.sha256(repr((self.position, held)).encode()).hexdigest()
