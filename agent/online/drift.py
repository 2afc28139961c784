"""Drift detection: has a model's quality changed silently? Two tests over the residuals of its scores.

A residual is a calibrated score less the snapshot's estimate, which does not follow the scores, so that a change stays to be
seen in full; a snapshot's constant error cancels, because scores after a change point are compared with those before. A
likelihood-ratio scan over every change point among the last scores (Siegmund & Venkatraman 1995) finds a change early and
dates it. The noise of a score is fitted to the residuals: confident estimates err far less than a coin would, doubtful ones
as much. River's ADWIN (Bifet & Gavalda 2007), which looks back further, backs the scan up. The state
is carried from one snapshot to the next, moved by how far the estimates differ (`moved`), so that a change close to a swap
is still found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from river import drift

from agent.observations import Drift
from agent.types import Array

MIN_WEIGHT = 0.02
"""A score of at most this weight is not tested for a change."""

STALE_WEIGHT = 0.1
"""Factor on the weight of a score from before a change, once it has been moved by the change's shift."""

_ASSUMED = 20.0
"""Scores that the assumed noise variance weighs like beside the observed one."""

_LEAST_NOISE = 0.8
"""Residuals that vary less than the fitted noise count as at least this share of it."""

_FEW = 3.0
"""After a change point with n scores the threshold's square is ``1 + _FEW / n`` times: the mean of a few is not normal."""

_SCAN_EVERY = 4
"""Scores between two scans, which take longer than all else that is learned from a score."""

_CLIP_SD = 2.5
"""Standard deviations at which a residual is clipped (Huber): no single score is an alarm."""

Row = tuple[int, float, float]
"""Position in the log, residual, and assumed noise variance."""


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When a change is reported.

    Parameters
    ----------
    threshold
        Standard errors by which the mean residual after a change point must differ from that before; somewhat more where few
        scores came after it.
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
        self._scores = np.zeros((2, 2 * config.window))  # residual, and assumed noise variance
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
            return self._drift(recent, "adwin")
        return None

    def _drift(self, recent: int, detector: Literal["scan", "adwin"]) -> Drift:
        """A change of the ``recent`` last scores beside those before; without them, beside 0."""
        residual, variance = self._scores[:, self._end - self._n : self._end]
        shift = np.average(residual[-recent:], weights=1.0 / variance[-recent:])
        if len(residual) > recent:
            shift -= np.average(residual[:-recent], weights=1.0 / variance[:-recent])
        since, last = self._seqs[[self._end - recent, self._end - 1]].tolist()
        return Drift(self._model, last, since, float(shift), detector)

    def rows(self) -> list[Row]:
        """The last scores."""
        at = slice(self._end - self._n, self._end)
        return list(zip(self._seqs[at].tolist(), *self._scores[:, at].tolist()))

    @property
    def _n(self) -> int:
        return min(self._end, self._config.window)

    def _add(self, seq: int, residual: float, variance: float) -> None:
        if self._end == len(self._seqs):
            self._end = self._config.window
            self._seqs[: self._end] = self._seqs[self._end :]
            self._scores[:, : self._end] = self._scores[:, self._end :]
        self._seqs[self._end] = seq
        self._scores[:, self._end] = residual, variance
        self._end += 1
        bound = _CLIP_SD * variance**0.5
        self.adwin.update(min(max(residual, -bound), bound))

    def _scan(self) -> Drift | None:
        """The most significant change point among the last scores."""
        n, least, first = self._n, self._config.min_after, self._end - self._n
        if n < 3 * least or self._end % _SCAN_EVERY:
            return None
        residual, assumed = self._scores[:, first : self._end]
        variance = fitted_variance(residual, assumed)
        bound = _CLIP_SD * np.sqrt(variance)
        value, precision = np.clip(residual, -bound, bound), 1.0 / variance
        terms = np.stack([precision, precision * value, precision * value * value])
        sums = terms.cumsum(axis=1)  # (3, n): of the first 1, 2, ... n scores
        before, total = sums[:2, 2 * least - 1 : n - least], sums[:, -1]
        (precision_before, sum_before), (precision_after, sum_after) = before, total[:2, None] - before
        mean_after, mean_before = sum_after / precision_after, sum_before / precision_before
        within = total[2] - sum_after * mean_after - sum_before * mean_before
        noise = np.maximum((_ASSUMED + within) / (_ASSUMED + n), _LEAST_NOISE)  # 1 where it is as fitted
        shift = mean_after - mean_before
        squared = shift * shift / (noise * (1.0 / precision_after + 1.0 / precision_before))
        squared /= 1.0 + _FEW / np.arange(n - 2 * least, least - 1, -1)
        best = int(squared.argmax())
        if squared[best] < self._config.threshold**2:
            return None
        return self._drift(n - 2 * least - best, "scan")


def fitted_variance(residual: Array, assumed: Array) -> Array:
    """(n,) noise variance of each score, ``a + b * assumed``, by weighted least squares of the squared residuals.

    Parameters
    ----------
    residual
        (n,), n at least 1.
    assumed
        (n,) noise variance expected of each, above 0; the line through it, a = 0 and b = 1, weighs like 20 scores.

    Examples
    --------
    >>> wide, narrow = np.tile([0.4, -0.4], 200), np.tile([0.1, -0.1], 200)
    >>> fitted_variance(np.concatenate([wide, narrow]), np.repeat([0.2, 0.1], 400))[[0, -1]].round(2).tolist()
    [0.15, 0.01]
    """
    squared = np.minimum((residual - residual.mean()) ** 2, 4.0 * assumed)
    weight = 1.0 / assumed**2  # a squared residual varies by its own expectation
    of_one, of_line = float(weight.sum()) + 0.2 * _ASSUMED / float(assumed.mean()) ** 2, len(residual) + _ASSUMED
    of_both = float((weight * assumed).sum())
    seen_one, seen_line = float(weight @ squared), float((squared / assumed).sum()) + _ASSUMED
    determinant = of_one * of_line - of_both**2
    a = (seen_one * of_line - seen_line * of_both) / determinant
    b = (of_one * seen_line - of_both * seen_one) / determinant
    out: Array = np.maximum(a + b * assumed, 0.1 * assumed)
    return out


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
