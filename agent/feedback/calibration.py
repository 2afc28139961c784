"""Calibration of feedback: an affine regression for every source.

A source's rating of an answer of true quality x is modelled as ``y = a + b x + noise``; a, b and the noise variance are
estimated by a Bayesian linear regression (Bishop 2006, section 3.3) from eight sums, from which a sample can be
subtracted again. What is known of single raters is in `agent.feedback.raters`.

The true quality is known where the answer was evaluated. Elsewhere its prior is what the decision expected, updated by the
other sources' calibrated ratings of the same answer, each with a noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from agent.observations import Observation

Kind = Literal["score", "comparison"]


Target = Literal["decision", "others", "evaluation"]
"""What a sample's outcome is estimated by: the decision alone, other sources too, or an evaluation."""


TARGETS: tuple[Target, ...] = get_args(Target)


_EPSILON = 1e-9


EXACT = "evaluation"
"""The source whose scores are true: they are neither calibrated nor discounted, and calibrate the others of their decision."""


MAX_UNVERIFIED_WEIGHT = 200.0
"""Samples whose outcomes were not evaluated weigh like at most so many: a decision's expectation may be off itself."""


PRIOR_NOISE: dict[Kind, float] = {"score": 0.15, "comparison": 0.6}
"""Prior noise variance; a comparison lies in [-1, 1], a score in [0, 1]."""


INTERCEPT_SD, SLOPE_SD = 0.15, 0.2
"""Prior standard deviations of a around 0 and b around 1."""


MIN_SLOPE = 0.3
"""Lower bound of b, so that ratings are not stretched without limit."""


MIN_NOISE = 0.5
"""Lower bound of the relative noise: a source that always gives the same rating has none, and no information either."""


_PRIOR_NOISE_WEIGHT = 20.0
"""Number of samples that the prior noise weighs like."""


@dataclass(frozen=True, slots=True)
class CalibrationSample:
    """A rating beside its outcome: one sample of its source's regression.

    Parameters
    ----------
    value
        The rating: a score in [0, 1], or a comparison in [-1, 1].
    outcome
        Estimate of the true quality, in the same range, by everything but this rating's source.
    variance
        Prior variance of the true quality around what the decision expected.
    explained
        Share of that variance which ``outcome`` explains, in [0, 1].
    weight
        Weight of the sample.
    target
        What ``outcome`` is estimated by.
    """

    value: float
    outcome: float
    variance: float
    explained: float
    weight: float
    target: Target


@dataclass(frozen=True, slots=True)
class AffineCalibration:
    """A source's regression ``y = intercept + slope * x``, its noise as a ratio to that of a clean evaluation."""

    intercept: float
    slope: float
    noise: float

    @property
    def weight(self) -> float:
        """Weight of one of the source's ratings beside a clean evaluation, in (0, 1]."""
        return min(1.0, self.slope**2 / self.noise)


_SUMS = 8
"""Sums of a regression: weight, x, x^2, y, xy, y^2, variance, explained variance."""


@dataclass(slots=True)
class SourceCalibration:
    """Regression of one source's ratings of one kind.

    Parameters
    ----------
    kind
        Scores or comparisons.
    n_ratings
        Number of ratings, revisions not counted.
    sums
        The regression's sums by `Target`.
    max_unverified_weight
        Cap on the weight of the sums whose outcomes were not evaluated, each.
    """

    kind: Kind
    n_ratings: int = 0
    sums: dict[Target, list[float]] = field(default_factory=lambda: {target: [0.0] * _SUMS for target in TARGETS})
    max_unverified_weight: float = MAX_UNVERIFIED_WEIGHT
    _affine: AffineCalibration | None = None  # of the sums as they are, once asked for

    def copy(self) -> Self:
        """One that changes apart from this one."""
        return replace(self, sums={target: list(sums) for target, sums in self.sums.items()})

    def update(self, sample: CalibrationSample, sign: float = 1.0) -> None:
        """Add a sample; with ``sign`` -1, subtract it."""
        x, y, w = sample.outcome, sample.value, sign * sample.weight
        terms = (1.0, x, x * x, y, x * y, y * y, sample.variance, sample.variance * sample.explained)
        self.sums[sample.target] = [total + w * term for total, term in zip(self.sums[sample.target], terms)]
        self._affine = None

    def affine(self) -> AffineCalibration:
        """The regression's posterior mean.

        Examples
        --------
        >>> judge = SourceCalibration("score")
        >>> for i in range(1000):
        ...     quality = i % 2
        ...     judge.update(CalibrationSample(0.8 * quality, quality, 0.25, 1.0, 1.0, "evaluation"))
        >>> source = judge.affine()
        >>> round(source.intercept, 2), round(source.slope, 2), round(source.noise, 2)
        (-0.0, 0.8, 0.65)
        """
        if self._affine is None:
            self._affine = self._fit()
        return self._affine

    def _fit(self) -> AffineCalibration:
        n, x, xx, y, xy, yy, variance, explained = self._total()
        noise = PRIOR_NOISE[self.kind]
        precision_intercept, precision_slope = n + noise / INTERCEPT_SD**2, xx + noise / SLOPE_SD**2
        weighted = xy + noise / SLOPE_SD**2
        slope = (precision_intercept * weighted - x * y) / (precision_intercept * precision_slope - x * x)
        slope = max(slope, MIN_SLOPE)
        intercept = (y - slope * x) / precision_intercept
        squares = yy + intercept**2 * n + slope**2 * xx + 2.0 * (intercept * slope * x - intercept * y - slope * xy)
        residual = max(squares, 0.0) + slope**2 * explained
        prior = _PRIOR_NOISE_WEIGHT * noise
        return AffineCalibration(intercept, slope, max(MIN_NOISE, (residual + prior) / (variance + prior)))

    def _total(self) -> list[float]:
        """The sums over all targets, unverified ones shrunken to at most their cap."""
        total = [0.0] * _SUMS
        for target, sums in self.sums.items():
            if not any(sums):
                continue
            cap = self.max_unverified_weight
            share = 1.0 if target == "evaluation" else cap / (cap + sums[0] + _EPSILON)
            total = [t + share * v for t, v in zip(total, sums)]
        return total


EvaluatedScore = Callable[[str, str], float | None]
"""(prompt id, model) -> its score in an evaluation, where there is one."""


_MAX_SOURCE_WEIGHT = 0.9
"""Cap on the source weight with which a rating updates an outcome."""


@dataclass(slots=True)
class Rating:
    """One source's rating of a decision's answer.

    Parameters
    ----------
    source, rater, other
        Who rated; the model it was compared with, None for a score.
    value
        A score in [0, 1], or a comparison in [-1, 1].
    expected, variance
        Prior mean (None where unknown) and variance of the outcome, by the decision.
    evaluated
        The outcome, where it was evaluated; else None.
    calibrated, source_weight
        Estimate of the outcome by this rating, and its weight beside a clean evaluation before any cap.
    sample_weight
        Weight as a sample of its source's regression.
    weight
        Weight that it was given after all caps.
    log_odds
        What it added to its rater's `RaterReliability.spam_log_odds`; None where nothing.
    """

    source: str
    rater: str
    other: str | None
    value: float
    expected: float | None
    variance: float
    evaluated: float | None
    calibrated: float = 0.0
    source_weight: float = 0.0
    sample_weight: float = 0.0
    weight: float = 0.0
    log_odds: float | None = None

    @classmethod
    def of(cls, o: Observation, evaluated_score: EvaluatedScore | None, optimism: float = 0.0) -> Self:
        """The rating of a row of the log, without weights; the decision expected too much by ``optimism``."""
        value, expected, variance = o.score, o.expected - optimism, outcome_variance(o.expected)
        evaluated = evaluated_score(o.prompt_id, o.model) if evaluated_score else None
        if o.other is not None:
            value, expected = 2.0 * value - 1.0, o.expected - o.expected_other
            variance += outcome_variance(o.expected_other)
            other = evaluated_score(o.prompt_id, o.other) if evaluated_score else None
            evaluated = None if evaluated is None or other is None else evaluated - other
        known = None if math.isnan(expected) else expected
        return cls(o.source, o.rater, o.other, value, known, variance, evaluated)

    @property
    def kind(self) -> Kind:
        """Whether it scores the answer or compares it."""
        return "score" if self.other is None else "comparison"

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """Another rating of the decision with the same identity revises this one."""
        return self.source, self.rater, self.other

    @property
    def has_outcome(self) -> bool:
        """Whether anything is known of the outcome by which source and rater can be updated; of true scores they are not."""
        return self.source != EXACT and (self.expected is not None or self.evaluated is not None)


def outcome_variance(expected: float) -> float:
    """Prior variance of an outcome in [0, 1] around ``expected`` (NaN: unknown): a coin's, plus 0.02 for its error."""
    p = 0.5 if math.isnan(expected) else min(max(expected, 0.0), 1.0)
    return 0.02 + p * (1.0 - p)


def outcome(rating: Rating, others: Sequence[Rating]) -> tuple[float, float]:
    """Posterior mean of what ``rating`` is about, given ``others``, and the share of its prior variance explained.

    A score of source weight f among the others observes the outcome, of prior variance v, with noise ``v * (1 / f - 1)``.
    """
    if rating.evaluated is not None:
        return rating.evaluated, 1.0
    assert rating.expected is not None, "a rating whose outcome is unknown gives no sample"
    scores = (
        []
        if rating.other
        else [(min(w.source_weight, _MAX_SOURCE_WEIGHT), w.calibrated) for w in others if w.other is None]
    )
    precision = sum(f / (1.0 - f) for f, _ in scores)
    weighted = sum(f / (1.0 - f) * (calibrated - rating.expected) for f, calibrated in scores)
    mean = rating.expected + weighted / (1.0 + precision)
    return (min(max(mean, 0.0), 1.0) if scores else mean), precision / (1.0 + precision)


def calibration_samples(rating: Rating, ratings: Sequence[Rating]) -> list[CalibrationSample]:
    """Samples of the rating's source: by the decision or evaluation alone, and by other sources among its ``ratings``."""
    alone, explained = outcome(rating, ())
    target: Target = "decision" if rating.evaluated is None else "evaluation"
    samples = [CalibrationSample(rating.value, alone, rating.variance, explained, rating.sample_weight, target)]
    updated, explained = outcome(rating, [w for w in ratings if w.source != rating.source])
    if rating.evaluated is None and explained:
        samples.append(
            CalibrationSample(rating.value, updated, rating.variance, explained, rating.sample_weight, "others")
        )
    return samples
