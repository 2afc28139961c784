"""Drift detection: has a model's quality changed silently? Two tests over the residuals of its scores.

A residual is a calibrated score less the snapshot's estimate, which does not follow the scores, so that a change stays to be
seen in full; a snapshot's constant error cancels, because scores after a change point are compared with those before. A
likelihood-ratio scan over every change point among the last scores (Siegmund & Venkatraman 1995, with the noise estimated)
finds a change early and dates it; River's ADWIN (Bifet & Gavalda 2007), which looks back further, backs it up. The state is
carried from one snapshot to the next, moved by how far the estimates differ (`moved`), so that a change close to a swap is
still found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift

from agent.types import Drift

MIN_WEIGHT = 0.02
"""A score of at most this weight is not tested for a change."""

STALE_WEIGHT = 0.1
"""Factor on the weight of a score from before a change, once it has been moved by the change's shift."""

_ASSUMED = 20.0
"""Scores that the assumed noise variance weighs like beside the observed one."""

Row = tuple[int, float, float]
"""Position in the log, residual, and assumed noise variance."""


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When a change is reported.

    Parameters
    ----------
    threshold
        Standard errors by which the mean residual after a change point must differ from that before.
    window
        Scores that the scan looks back on.
    min_after
        Fewest scores after a change point; before it, twice as many.
    warmup
        Scores that a model must have, those of the snapshot included, before it is tested.
    adwin_delta
        ADWIN's confidence: smaller means fewer false alarms, and later ones.
    """

    threshold: float = 5.0
    window: int = 800
    min_after: int = 8
    warmup: int = 100
    adwin_delta: float = 1e-5


def drift_adjustment(model: str, seq: int, drifts: Sequence[Drift]) -> tuple[float, float]:
    """(shift to add to a score from position ``seq`` of the log, factor on its weight), given later changes of its model."""
    shifts = [drift.shift for drift in drifts if drift.model == model and seq < drift.since]
    return sum(shifts), STALE_WEIGHT ** len(shifts)


def moved(state: Mapping[str, Sequence[Row]], by: Mapping[str, float]) -> dict[str, list[Row]]:
    """`DriftDetectors.state` where a new snapshot estimates each model ``by`` so much higher than the one before."""
    return {
        model: [(seq, residual - by.get(model, 0.0), variance) for seq, residual, variance in rows]
        for model, rows in state.items()
    }


class DriftDetector:
    """Tests one model's residuals.

    Examples
    --------
    >>> detector = DriftDetector("a")
    >>> rng = np.random.default_rng(0)
    >>> for seq in range(200):
    ...     _ = detector.learn_one(seq, rng.normal(0, 0.4), 0.16)
    >>> found = [d for seq in range(200, 280) if (d := detector.learn_one(seq, rng.normal(-0.5, 0.4), 0.16))]
    >>> abs(found[0].since - 200) < 10, found[0].detector
    (True, 'scan')
    """

    def __init__(self, model: str, config: DriftConfig = DriftConfig(), rows: Iterable[Row] = ()) -> None:
        """``rows`` are those of another detector, which this one goes on from."""
        self._model = model
        self._config = config
        self._seqs = np.zeros(2 * config.window, np.int64)
        self._terms = np.zeros((3, 2 * config.window))  # precision, and residual and squared residual times precision
        self._end = 0  # the last `window` columns before this one are those of the last scores
        self.adwin = drift.ADWIN(delta=config.adwin_delta)
        for row in rows:
            self._add(*row)

    def learn_one(self, seq: int, residual: float, variance: float) -> Drift | None:
        """Test one more ``residual`` of this noise ``variance``; after a drift, go on with a new detector."""
        self._add(seq, residual, variance)
        if found := self._scan():
            return found
        if self.adwin.drift_detected:
            recent = min(int(self.adwin.width), self._n)
            terms = self._terms[:2, self._end - self._n : self._end]
            after, before = terms[:, -recent:].sum(axis=1), terms[:, :-recent].sum(axis=1)
            shift = after[1] / after[0] - (before[1] / before[0] if before[0] else 0.0)
            return Drift(self._model, seq, int(self._seqs[self._end - recent]), float(shift), "adwin")
        return None

    def rows(self) -> list[Row]:
        """The last scores."""
        at = slice(self._end - self._n, self._end)
        precision, weighted, _ = self._terms[:, at]
        return list(zip(self._seqs[at].tolist(), (weighted / precision).tolist(), (1.0 / precision).tolist()))

    @property
    def _n(self) -> int:
        return min(self._end, self._config.window)

    def _add(self, seq: int, residual: float, variance: float) -> None:
        bound = 2.5 * variance**0.5  # Huber's clip: no single score is an alarm
        value = min(max(residual, -bound), bound)
        if self._end == len(self._seqs):
            self._end = self._config.window
            self._seqs[: self._end] = self._seqs[self._end :]
            self._terms[:, : self._end] = self._terms[:, self._end :]
        self._seqs[self._end] = seq
        self._terms[:, self._end] = 1.0 / variance, value / variance, value * value / variance
        self._end += 1
        self.adwin.update(value)

    def _scan(self) -> Drift | None:
        """The most significant change point among the last scores."""
        n, least, first = self._n, self._config.min_after, self._end - self._n
        if n < 3 * least:
            return None
        sums = self._terms[:, first : self._end].cumsum(axis=1)  # (3, n): of the first 1, 2, ... n scores
        before, total = sums[:2, 2 * least - 1 : n - least], sums[:, -1]
        (precision_before, sum_before), (precision_after, sum_after) = before, total[:2, None] - before
        mean_after, mean_before = sum_after / precision_after, sum_before / precision_before
        within = total[2] - sum_after * mean_after - sum_before * mean_before
        noise = (_ASSUMED + within) / (_ASSUMED + n)  # 1 where it is as assumed
        shift = mean_after - mean_before
        squared = shift * shift / (noise * (1.0 / precision_after + 1.0 / precision_before))
        best = int(squared.argmax())
        if squared[best] < self._config.threshold**2:
            return None
        since = int(self._seqs[first + 2 * least + best])
        return Drift(self._model, int(self._seqs[self._end - 1]), since, float(shift[best]), "scan")


class DriftDetectors:
    """A detector for every model, each started once its model has `DriftConfig.warmup` scores.

    Parameters
    ----------
    n_scores
        model -> number of scores that the snapshot holds of it.
    state
        Of `state`, to go on from; None for new detectors.
    """

    def __init__(
        self, n_scores: Mapping[str, float], config: DriftConfig = DriftConfig(), state: Mapping[str, Any] | None = None
    ) -> None:
        self._config = config
        self._n_scores = dict(n_scores)
        self._detectors = {model: DriftDetector(model, config, rows) for model, rows in (state or {}).items()}

    def learn_one(self, model: str, seq: int, score: float, weight: float, predicted: float) -> Drift | None:
        """Count a new score of ``model`` and test it for a change.

        Parameters
        ----------
        seq
            Its position in the log.
        score, weight
            Its calibrated value, and its weight beside a clean evaluation.
        predicted
            The snapshot's estimate of it, in [0, 1]; NaN where that is not known, and it is only counted.
        """
        self._n_scores[model] = self.n_scores(model) + 1.0
        if weight <= MIN_WEIGHT or np.isnan(predicted) or self._n_scores[model] < self._config.warmup:
            return None
        detector = self._detectors.get(model)
        if detector is None:
            detector = self._detectors[model] = DriftDetector(model, self._config)
        found = detector.learn_one(seq, score - predicted, _residual_variance(predicted) / weight)
        if found is not None:
            del self._detectors[model]
        return found

    def n_scores(self, model: str) -> float:
        """Number of scores of a model, those of the snapshot included."""
        return self._n_scores.get(model, 0.0)

    def state(self) -> dict[str, list[Row]]:
        """What a snapshot carries on, as JSON."""
        return {model: detector.rows() for model, detector in self._detectors.items()}

    def digest_parts(self) -> tuple[object, ...]:
        """The whole state."""
        adwin = [(d.adwin.estimation, d.adwin.width) for d in self._detectors.values()]
        return tuple(self._n_scores.items()), self.state(), adwin


def _residual_variance(predicted: float) -> float:
    """Assumed noise variance of a score of weight 1 around what was predicted: most of a coin's, and 0.05."""
    p = min(max(predicted, 0.0), 1.0)
    return 0.05 + 0.7 * p * (1.0 - p)
