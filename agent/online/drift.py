"""Silent changes: two alarms over the surprises of one model's scores.

A likelihood-ratio scan over every change point among the last scores (Siegmund & Venkatraman 1995) is quick and tells
when the change was; River's ADWIN (Bifet & Gavalda 2007) needs no assumption about the noise and stands behind it.
Surprises are weighed by how sure the router was: a miss where it was sure tells most. What was watched is carried from
one snapshot to the next, or a change close to a swap would go unnoticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift

from agent.types import Drift

TELLING = 0.02
"""A word that weighs less says nothing of a change."""

STALE = 0.1
"""What a score from before a change counts, once it is moved by the change's shift."""


_LEAST_NOISE = 0.6


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When a change is believed.

    Parameters
    ----------
    threshold
        Standard errors by which the mean surprise after a change point must differ from that before; noise is as seen.
    window
        Scores that are looked back on.
    least
        Fewest scores after (and, twice, before) a change point.
    baseline_precision
        Baseline of no surprise at all that weighs like this much information; damps alarms of the young.
    warmup
        Scores of a model, those of the snapshot included, before any alarm.
    adwin
        ADWIN's confidence; smaller is surer and later.
    """

    threshold: float = 4.6
    window: int = 400
    least: int = 8
    baseline_precision: float = 200.0
    warmup: int = 100
    adwin: float = 0.002


@dataclass(frozen=True, slots=True)
class Innovation:
    """A score less what was expected of it, in about [-1, 1], and the ``variance`` that chance alone gives it."""

    value: float
    variance: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change found: the ``since``-th position of the log is its first score, ``shift`` the change of the mean surprise."""

    since: int
    shift: float
    detector: str


def coin_variance(expected: float) -> float:
    """Variance of a score around what its very prompt makes expect: most of a coin's, and a little more."""
    p = min(max(expected, 0.0), 1.0)
    return 0.05 + 0.7 * p * (1.0 - p)


def innovation(score: float, expected: float, weight: float) -> Innovation | None:
    """Of a ``score`` of this ``weight`` that should have been ``expected``; None where it says nothing of a change."""
    if weight <= TELLING or np.isnan(expected):
        return None
    return Innovation(score - expected, coin_variance(expected) / weight)


def drift_adjustment(model: str, seq: int, drifts: Sequence[Drift]) -> tuple[float, float]:
    """How much a score from position ``seq`` of the log is to be moved, and what it still counts, given later changes."""
    shifts = [drift.shift for drift in drifts if drift.model == model and seq < drift.since]
    return sum(shifts), STALE ** len(shifts)


class DriftDetector:
    """Watches one model.

    Parameters
    ----------
    config
        When to believe.

    Examples
    --------
    >>> detector = DriftDetector()
    >>> rng = np.random.default_rng(0)
    >>> for seq in range(200):
    ...     _ = detector.learn_one(seq, Innovation(rng.normal(0, 0.4), 0.16))
    >>> later = (Innovation(rng.normal(-0.5, 0.4), 0.16) for _ in range(80))
    >>> found = [c for seq, s in enumerate(later, 200) if (c := detector.learn_one(seq, s))]
    >>> abs(found[0].since - 200) < 10, found[0].detector
    (True, 'scan')
    """

    def __init__(self, config: DriftConfig = DriftConfig()) -> None:
        self._config = config
        self._seqs: deque[int] = deque(maxlen=config.window)
        self._terms: deque[tuple[float, float]] = deque(maxlen=config.window)  # (surprise, 1) over variance
        self._adwin = drift.ADWIN(delta=config.adwin)

    def take_in(self, seq: int, innovation: Innovation) -> None:
        """Remember the surprise at position ``seq`` of the log."""
        bound = 2.5 * innovation.variance**0.5  # Huber's clip: one wild score proves nothing
        value = min(max(innovation.value, -bound), bound)
        self._seqs.append(seq)
        self._terms.append((value / innovation.variance, 1.0 / innovation.variance))
        self._adwin.update(value)

    def learn_one(self, seq: int, innovation: Innovation) -> Change | None:
        """Take the surprise at position ``seq`` of the log in; a `Change`, where one is found."""
        self.take_in(seq, innovation)
        if found := self._scan():
            return found
        if self._adwin.drift_detected:
            recent = min(int(self._adwin.width), len(self._seqs))
            terms = np.array(self._terms)
            after, before = terms[-recent:].sum(axis=0), terms[:-recent].sum(axis=0)
            shift = after[0] / after[1] - (before[0] / before[1] if before[1] else 0.0)
            return Change(self._seqs[-recent], float(shift), "adwin")
        return None

    def parts(self) -> tuple[object, ...]:
        """What the state consists of."""
        return tuple(self._seqs), tuple(self._terms), self._adwin.estimation, self._adwin.width

    def rows(self) -> list[tuple[int, float, float]]:
        """(position, surprise, variance) of what is remembered."""
        return [(seq, value / weight, 1.0 / weight) for seq, (value, weight) in zip(self._seqs, self._terms)]

    def _scan(self) -> Change | None:
        n, least = len(self._terms), self._config.least
        if n < 3 * least:
            return None
        terms = np.array(self._terms)
        seen = float((terms[:, 0] ** 2 / terms[:, 1]).mean())  # 1 where scores err as chance lets them
        noise = min(max(seen, _LEAST_NOISE), 1.0)
        after = terms[::-1].cumsum(axis=0)  # (n, 2): the last 1, 2, ... n scores
        before = after[-1] - after[:-1]
        level, information = after[:-1, 0] / after[:-1, 1], after[:-1, 1]
        baseline, baseline_precision = (
            before[:, 0] / (before[:, 1] + self._config.baseline_precision),
            before[:, 1] + self._config.baseline_precision,
        )
        gap = (level - baseline) / np.sqrt(noise * (1.0 / information + 1.0 / baseline_precision))
        gap[: least - 1] = 0.0
        gap[n - 2 * least :] = 0.0
        at = int(np.abs(gap).argmax())
        if abs(gap[at]) < self._config.threshold:
            return None
        return Change(self._seqs[n - 1 - at], float(level[at] - baseline[at]), "scan")


class DriftDetectors:
    """A watch over every model.

    Parameters
    ----------
    scores
        model -> scores that stand behind it already.
    config
        When to believe.
    state
        Of `state`, from which it goes on; None: nothing was watched yet.
    """

    def __init__(
        self, scores: Mapping[str, float], config: DriftConfig = DriftConfig(), state: Mapping[str, Any] | None = None
    ) -> None:
        self._config = config
        self._scores = dict(scores)
        self._detectors: dict[str, DriftDetector] = {}
        for model, rows in (state or {}).items():
            detector = self._detectors[model] = DriftDetector(config)
            for seq, value, variance in rows:
                detector.take_in(seq, Innovation(value, variance))

    def learn_one(self, model: str, seq: int, innovation: Innovation | None) -> Drift | None:
        """Count a score of ``model``, and take in how it surprised; the drift, where that gave one away."""
        self._scores[model] = self.scores_of(model) + 1.0
        if innovation is None or self._scores[model] < self._config.warmup:
            return None
        change = self._detectors.setdefault(model, DriftDetector(self._config)).learn_one(seq, innovation)
        if change is None:
            return None
        del self._detectors[model]
        return Drift(model, seq, change.since, change.shift, change.detector)

    def scores_of(self, model: str) -> float:
        """Scores that stand behind a model."""
        return self._scores.get(model, 0.0)

    def parts(self) -> tuple[object, ...]:
        """What the state consists of."""
        return tuple(self._scores.items()), tuple(
            (model, detector.parts()) for model, detector in self._detectors.items()
        )

    def state(self) -> dict[str, list[tuple[int, float, float]]]:
        """What a snapshot carries on, as JSON."""
        return {model: detector.rows() for model, detector in self._detectors.items()}
