"""Drift detection: has a model's quality changed silently? Two tests over the innovations of its scores.

An innovation is a score less what its decision expected. A likelihood-ratio scan over every change point among the last
scores (Siegmund & Venkatraman 1995) finds a change early and dates it; River's ADWIN (Bifet & Gavalda 2007), which assumes
nothing of the noise, backs it up. In the scan an innovation has the precision that its expectation and its weight imply.
The detectors' state is carried from one snapshot to the next, so that a change close to a swap is still found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift

from agent.types import Array, Drift

MIN_WEIGHT = 0.02
"""A score of at most this weight is not tested for a change."""

STALE_WEIGHT = 0.1
"""Factor on the weight of a score from before a change, once it has been moved by the change's shift."""

_MIN_NOISE = 0.6
"""Least ratio of observed to assumed variance that the scan allows for."""


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When a change is reported.

    Parameters
    ----------
    threshold
        Standard errors by which the mean innovation after a change point must differ from that before.
    window
        Scores that the scan looks back on.
    min_after
        Fewest scores after a change point; before it, twice as many.
    baseline_precision
        Precision of a prior of zero on the mean innovation before the change; it damps alarms on few scores.
    warmup
        Scores that a model must have, those of the snapshot included, before it is tested.
    adwin_delta
        ADWIN's confidence: smaller means fewer false alarms, and later ones.
    """

    threshold: float = 4.6
    window: int = 400
    min_after: int = 8
    baseline_precision: float = 200.0
    warmup: int = 100
    adwin_delta: float = 0.002


def drift_adjustment(model: str, seq: int, drifts: Sequence[Drift]) -> tuple[float, float]:
    """(shift to add to a score from position ``seq`` of the log, factor on its weight), given later changes of its model."""
    shifts = [drift.shift for drift in drifts if drift.model == model and seq < drift.since]
    return sum(shifts), STALE_WEIGHT ** len(shifts)


class DriftDetector:
    """Tests one model's innovations.

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

    def __init__(
        self, model: str, config: DriftConfig = DriftConfig(), rows: Iterable[tuple[int, float, float]] = ()
    ) -> None:
        """``rows`` are those of another detector, which this one goes on from."""
        self._model = model
        self._config = config
        self._seqs: deque[int] = deque(maxlen=config.window)
        self._terms: deque[tuple[float, float]] = deque(maxlen=config.window)  # (innovation, 1) over variance
        self.adwin = drift.ADWIN(delta=config.adwin_delta)
        for row in rows:
            self._add(*row)

    def learn_one(self, seq: int, innovation: float, variance: float) -> Drift | None:
        """Test one more ``innovation`` of this noise ``variance``; after a drift, go on with a new detector."""
        self._add(seq, innovation, variance)
        terms = np.array(self._terms)  # (n, 2)
        if found := self._scan(terms):
            return found
        if self.adwin.drift_detected:
            recent = min(int(self.adwin.width), len(self._seqs))
            after, before = terms[-recent:].sum(axis=0), terms[:-recent].sum(axis=0)
            shift = after[0] / after[1] - (before[0] / before[1] if before[1] else 0.0)
            return Drift(self._model, seq, self._seqs[-recent], float(shift), "adwin")
        return None

    def rows(self) -> list[tuple[int, float, float]]:
        """(position, innovation, variance) of the last scores."""
        return [(seq, value / weight, 1.0 / weight) for seq, (value, weight) in zip(self._seqs, self._terms)]

    def _add(self, seq: int, innovation: float, variance: float) -> None:
        bound = 2.5 * variance**0.5  # Huber's clip: no single score is an alarm
        value = min(max(innovation, -bound), bound)
        self._seqs.append(seq)
        self._terms.append((value / variance, 1.0 / variance))
        self.adwin.update(value)

    def _scan(self, terms: Array) -> Drift | None:
        """The most significant change point among ``terms``, (n, 2)."""
        n, min_after = len(terms), self._config.min_after
        if n < 3 * min_after:
            return None
        observed = float((terms[:, 0] ** 2 / terms[:, 1]).mean())  # 1 where the noise is as assumed
        noise = min(max(observed, _MIN_NOISE), 1.0)
        after = terms[::-1].cumsum(axis=0)  # (n, 2): the last 1, 2, ... n scores
        before = after[-1] - after[:-1]
        mean_after, precision_after = after[:-1, 0] / after[:-1, 1], after[:-1, 1]
        precision_before = before[:, 1] + self._config.baseline_precision
        mean_before = before[:, 0] / precision_before
        z = (mean_after - mean_before) / np.sqrt(noise * (1.0 / precision_after + 1.0 / precision_before))
        z[: min_after - 1] = 0.0
        z[n - 2 * min_after :] = 0.0
        best = int(np.abs(z).argmax())
        if abs(z[best]) < self._config.threshold:
            return None
        shift = float(mean_after[best] - mean_before[best])
        return Drift(self._model, self._seqs[-1], self._seqs[n - 1 - best], shift, "scan")


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

    def learn_one(self, model: str, seq: int, score: float, weight: float, expected: float) -> Drift | None:
        """Count a new score of ``model`` and test it for a change.

        Parameters
        ----------
        seq
            Its position in the log.
        score, weight
            Its calibrated value, and its weight beside a clean evaluation.
        expected
            What the decision expected of it, in [0, 1]; NaN where that is not known, and it is only counted.
        """
        self._n_scores[model] = self.n_scores(model) + 1.0
        if weight <= MIN_WEIGHT or np.isnan(expected) or self._n_scores[model] < self._config.warmup:
            return None
        detector = self._detectors.setdefault(model, DriftDetector(model, self._config))
        found = detector.learn_one(seq, score - expected, _innovation_variance(expected) / weight)
        if found is not None:
            del self._detectors[model]
        return found

    def n_scores(self, model: str) -> float:
        """Number of scores of a model, those of the snapshot included."""
        return self._n_scores.get(model, 0.0)

    def state(self) -> dict[str, list[tuple[int, float, float]]]:
        """What a snapshot carries on, as JSON."""
        return {model: detector.rows() for model, detector in self._detectors.items()}

    def digest_parts(self) -> tuple[object, ...]:
        """The whole state."""
        adwin = [(d.adwin.estimation, d.adwin.width) for d in self._detectors.values()]
        return tuple(self._n_scores.items()), self.state(), adwin


def _innovation_variance(expected: float) -> float:
    """Noise variance of a score of weight 1 around what its decision expected: most of a coin's, and 0.05."""
    p = min(max(expected, 0.0), 1.0)
    return 0.05 + 0.7 * p * (1.0 - p)
