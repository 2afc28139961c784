"""Outcomes of calls as streams: input and output tokens, latency, cost and failures of each model, with upper quantiles.

Every stream is a window of a model's latest outcomes: it forgets what is old, its memory is bounded, and it is a function of
the last `WINDOW` rows of the outcome log that hold its figure, so that a replica that starts reads these rows alone and knows
what the others know. Quantiles are River's (Montiel et al. 2021). A card's ``output_tokens``, or `TYPICAL_OUTPUT_TOKENS`,
counts as `PRIOR_WEIGHT` outcomes beside them.

Of a model whose cost the snapshot estimates for each prompt, the stream is the ratio of true to estimated cost; of another
it is the length of its answers, by task where the task has outcomes, shrunk to the model's mean.

Tokens, latency and failures are tested for drift (`agent.online.call_drift`), which is a function of the window too. From a
drift on only the rows after the change count. Replicas that have read other parts of the log may date a change differently,
so what the store has recorded takes precedence (`OutcomeStatistics.set_changes`).
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from river import stats

from agent.observations import CALL_KINDS, CallDrift, CallOutcome, Drift, DriftKind
from agent.online.call_drift import find_change, is_tested
from agent.online.drift import STALE_WEIGHT
from agent.types import TYPICAL_OUTPUT_TOKENS, UPPER, UPPER_RATIO, CallForecast, ModelCard

WINDOW = 300
"""Latest outcomes of a model that each of its streams holds."""

PRIOR_WEIGHT = 10.0
"""Outcomes that a card's hint counts as, or the encoder's count of a prompt."""

SNAPSHOT_WEIGHT = 30.0
"""Outcomes that the snapshot's cost model counts as, which rests on evaluations."""

TASK_WEIGHT = 30.0
"""Outcomes that a model's mean length over all tasks counts as in that of a task."""

OUTLIER = 5.0
"""A value above so many times the upper quantile counts as that in a mean: one answer that ran on for ever is no trend."""

MIN_LATENCIES = 10
"""Fewest answers whose times have an upper quantile."""


class _Summary(NamedTuple):
    """Of a window: its number of values, the ratio of sums without outliers, the upper quantile; task -> number and sum of
    its values; the weight of what is known from elsewhere, less where that is from before a change."""

    n: int = 0
    ratio: float = 1.0
    upper: float = 1.0
    by_task: Mapping[int, tuple[int, float]] = {}
    prior_weight: float = 1.0


class _Window:
    """The last `WINDOW` values of a figure, each with what it is measured by (1: nothing); those from ``since`` on count."""

    def __init__(self) -> None:
        self._rows: deque[tuple[int, int, float, float]] = deque(maxlen=WINDOW)
        self._upper = stats.RollingQuantile(UPPER, window_size=WINDOW)
        self.since = 0

    def add(self, seq: int, task: int, value: float, of: float = 1.0) -> None:
        self._rows.append((seq, task, value, of))
        if seq >= self.since:
            self._upper.update(value / of)

    def start(self, since: int) -> None:
        """Count the values from row ``since`` of the log on."""
        self.since, self._upper = since, stats.RollingQuantile(UPPER, window_size=WINDOW)
        for _, _, value, of in self._counted():
            self._upper.update(value / of)

    def summary(self) -> _Summary:
        counted, sums = self._counted(), dict[int, tuple[int, float]]()
        prior_weight = 1.0 if len(counted) == len(self._rows) else STALE_WEIGHT
        if not counted:
            return _Summary(prior_weight=prior_weight)
        upper, total, of_total = float(self._upper.get() or 0.0), 0.0, 0.0
        most = OUTLIER * upper or math.inf
        for _, task, value, of in counted:
            part = min(value, most * of)
            total, of_total = total + part, of_total + of
            count, sum_ = sums.get(task, (0, 0.0))
            sums[task] = count + 1, sum_ + part
        return _Summary(len(counted), total / of_total, upper, sums, prior_weight)

    def drift(self, model: str, kind: DriftKind) -> CallDrift | None:
        """The change among the values that count, found at the last of them: within tasks, so that other prompts are none."""
        counted = self._counted()
        values = np.array([value for _, _, value, _ in counted])
        if kind != "failures":
            values = np.log(np.maximum(values, 1.0))
            _, task = np.unique([task for _, task, _, _ in counted], return_inverse=True)
            values -= (np.bincount(task, values) / np.bincount(task))[task]
        found = find_change(values, binary=kind == "failures")
        if found is None:
            return None
        at, shift = found
        return CallDrift(Drift(model, counted[-1][0], counted[at][0], shift, "page-hinkley", kind), self.since)

    def held(self) -> tuple[list[int], int]:
        """Positions of the rows, and of the first that counts where others do not."""
        seqs = [row[0] for row in self._rows]
        return seqs, self.since if seqs and seqs[0] < self.since else 0

    def _counted(self) -> Sequence[tuple[int, int, float, float]]:
        return [row for row in self._rows if row[0] >= self.since]


@dataclass(slots=True)
class _Model:
    """The streams of one model."""

    name: str
    tokens: _Window = field(default_factory=_Window)
    cost: _Window = field(default_factory=_Window)
    input: _Window = field(default_factory=_Window)
    latency: _Window = field(default_factory=_Window)
    failures: _Window = field(default_factory=_Window)
    lengths: _Summary = _Summary()
    ratios: _Summary = _Summary()
    others: tuple[float | None, float | None, float | None, int, float] = (None, None, None, 0, 1.0)
    made: dict[tuple[float, int], CallForecast] = field(default_factory=dict)  # since the last row

    def learn_one(self, row: CallOutcome) -> list[DriftKind]:
        """The kinds of the streams that the row has entered."""
        seq, task, kinds = row.seq, row.task, list[DriftKind](["failures"])
        self.failures.add(seq, task, float(row.status != "ok"))
        if row.status != "ok":
            return kinds
        if row.latency_ms is not None:
            self.latency.add(seq, task, row.latency_ms)
            kinds.append("latency")
        if row.output_tokens is not None:
            self.tokens.add(seq, task, float(row.output_tokens))
            kinds.append("tokens")
        if row.input_tokens is not None and row.encoder_tokens:
            self.input.add(seq, task, float(row.input_tokens), float(row.encoder_tokens))
        if row.cost_usd is not None and row.snapshot_cost:
            self.cost.add(seq, task, row.cost_usd, row.snapshot_cost)
        return kinds

    def drifts(self, kinds: Iterable[DriftKind]) -> list[CallDrift]:
        """Test streams; from a drift on only what came after the change counts."""
        found = []
        for kind in kinds:
            if drift := self._windows(kind)[0].drift(self.name, kind):
                found.append(drift)
                self.start(kind, drift.drift.since)
        return found

    def start(self, kind: DriftKind, since: int) -> bool:
        """Count the rows from ``since`` on; whether that is a change."""
        windows = self._windows(kind)
        if windows[0].since == since:
            return False
        for window in windows:
            window.start(since)
        return True

    def _windows(self, kind: DriftKind) -> tuple[_Window, ...]:
        """The stream of this kind, and those that change with it."""
        return {"tokens": (self.tokens, self.cost), "latency": (self.latency,)}.get(kind, (self.failures,))

    def summarize(self) -> None:
        """To be called after the last of some rows, so that `forecast`, which every decision calls, has little to do."""
        self.lengths, self.ratios = self.tokens.summary(), self.cost.summary()
        time, failed, given = self.latency.summary(), self.failures.summary(), self.input.summary()
        input_ratio = (PRIOR_WEIGHT + given.n * given.ratio) / (PRIOR_WEIGHT + given.n)
        self.others = (
            time.ratio if time.n else None, time.upper if time.n >= MIN_LATENCIES else None,
            failed.ratio if failed.n else None, failed.n, input_ratio,
        )  # fmt: skip
        self.made = {}  # a reader may still fill the old one

    def held(self) -> list[tuple[list[int], int]]:
        return [w.held() for w in (self.tokens, self.cost, self.input, self.latency, self.failures)]

    def forecast(self, hint: float, task: int) -> CallForecast:
        made, key = self.made, (hint, task)
        if (found := made.get(key)) is None:
            found = made[key] = self._forecast(hint, task)
        return found

    def _forecast(self, hint: float, task: int) -> CallForecast:
        n, level, upper, by_task, of_prior = self.lengths
        prior = PRIOR_WEIGHT * of_prior
        mean = (prior * hint + n * level) / (prior + n)
        upper = (prior * hint * UPPER_RATIO + n * upper) / (prior + n)
        n_task, total = by_task.get(task, (0, 0.0))
        expected = (TASK_WEIGHT * mean + total) / (TASK_WEIGHT + n_task)
        n_priced, ratio, ratio_upper, _, of_snapshot = self.ratios
        return CallForecast(
            expected, upper * expected / mean if mean > 0.0 else upper, ratio, ratio_upper,
            n_priced / (n_priced + SNAPSHOT_WEIGHT * of_snapshot), *self.others,
        )  # fmt: skip


class OutcomeStatistics:
    """What is known of the models' calls: a function of the outcome log's last rows, in order, and of the recorded drifts.

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
    >>> drifts = known.learn_many([CallOutcome(n, "v/thinker", 0, "ok", output_tokens=5000) for n in range(1, 31)])
    >>> known.forecast(thinker).output_tokens
    4250.0
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self.position = 0

    @classmethod
    def started(cls, rows: Sequence[CallOutcome], changes: Mapping[tuple[str, DriftKind], int]) -> Self:
        """What a replica knows when it starts: the last ``rows`` of the log, which others have tested, and `set_changes`."""
        found = cls()
        found._learn(rows, test=False)
        found.set_changes(changes)
        return found

    def learn_many(self, rows: Sequence[CallOutcome]) -> list[CallDrift]:
        """Learn rows of the log, in order; those at or before `position` are skipped. Returns the drifts found."""
        return self._learn(rows, test=True)

    def _learn(self, rows: Sequence[CallOutcome], *, test: bool) -> list[CallDrift]:
        changed, found = {}, []
        for row in rows:
            if row.seq > self.position:
                model = changed[row.model] = self._model(row.model)
                kinds = model.learn_one(row)
                if test and is_tested(row.seq):
                    found += model.drifts(kinds)
                self.position = row.seq
        for model in changed.values():
            model.summarize()
        return found

    def set_changes(self, changes: Mapping[tuple[str, DriftKind], int]) -> None:
        """Count rows from the last recorded change of each stream on: (model, kind) -> position of the first row after it."""
        for (name, kind), since in changes.items():
            model = self._model(name)
            if kind in CALL_KINDS and model.start(kind, since):
                model.summarize()

    def _model(self, name: str) -> _Model:
        return self._models.setdefault(name, _Model(name))

    def forecast(self, card: ModelCard, task: int | None = None) -> CallForecast:
        """What is expected of the next call to a model, on a prompt of ``task`` where that is known."""
        hint = float(card.output_tokens or TYPICAL_OUTPUT_TOKENS)
        found = self._models.get(card.name)
        if found is None:
            return CallForecast(hint, hint * UPPER_RATIO)
        return found.forecast(hint, -1 if task is None else task)

    def digest(self) -> str:
        """A hash of the rows that the streams hold, equal on replicas that have read the same log, from whatever row on."""
        held = [(name, model.held()) for name, model in sorted(self._models.items())]
        return hashlib.sha256(repr((self.position, held)).encode()).hexdigest()
