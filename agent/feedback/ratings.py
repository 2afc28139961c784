"""The ratings of one decision, and the regression samples that they give.

The true quality of an answer, its outcome, is known where the answer was evaluated. Elsewhere its prior is what the
decision expected, updated by the other sources' calibrated ratings of the same answer, each with a noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from agent.feedback.calibration import CalibrationSample, Kind, Target
from agent.types import Observation

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
    def of(cls, o: Observation, evaluated_score: EvaluatedScore | None) -> Self:
        """The rating of a row of the log, without weights."""
        value, expected, variance = o.score, o.expected, outcome_variance(o.expected)
        evaluated = evaluated_score(o.prompt_id, o.model) if evaluated_score else None
        if o.other is not None:
            value, expected = 2.0 * value - 1.0, expected - o.expected_other
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
        """Whether anything is known of the outcome, so that source and rater can be updated."""
        return self.expected is not None or self.evaluated is not None


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
