"""What was said of one decision, and what that teaches about who said it.

The truth of an answer is known where it was evaluated. Else it is expected to be what the decision expected, moved to
what others said of the same answer, each other word being a reading of the truth with a noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agent.feedback.calibration import CalibrationSample, Kind, Target
from agent.types import Observation

_SUREST = 0.9
"""No word explains more of an outcome's variance than this."""


@dataclass(slots=True)
class Rating:
    """Something said of a decision.

    Parameters
    ----------
    source, rater, other
        By whom; against which model, where it is a comparison.
    value
        As `agent.feedback.calibration.CalibrationSample` has it.
    expected, variance, truth
        The outcome as the decision expected it, its variance around that, and as it was evaluated; None where unknown.
    calibrated, source_weight
        The outcome that it was read as, and what such a reading is worth before any cap.
    sample_weight, weight
        With which it teaches, and with which it counted.
    log_odds
        What it added to its rater's doubt; None where it taught no rater.
    """

    source: str
    rater: str
    other: str | None
    value: float
    expected: float | None
    variance: float
    truth: float | None
    calibrated: float = 0.0
    source_weight: float = 0.0
    sample_weight: float = 0.0
    weight: float = 0.0
    log_odds: float | None = None

    @classmethod
    def of(cls, o: Observation, truth: float | None, truth_other: float | None) -> Self:
        """A row of the log, not yet weighed; the evaluations of both answers, None where unknown."""
        if o.other is None:
            return cls(o.source, o.rater, None, o.score, _known(o.expected), outcome_variance(o.expected), truth)
        return cls(
            o.source,
            o.rater,
            o.other,
            2.0 * o.score - 1.0,
            _known(o.expected - o.expected_other),
            outcome_variance(o.expected) + outcome_variance(o.expected_other),
            None if truth is None or truth_other is None else truth - truth_other,
        )

    @property
    def kind(self) -> Kind:
        """Whether it scores the answer or compares it."""
        return "score" if self.other is None else "comparison"

    @property
    def who(self) -> tuple[str, str, str | None]:
        """What makes a later word a revision of it."""
        return self.source, self.rater, self.other

    @property
    def is_about_something(self) -> bool:
        """Whether anything is known of the outcome, so that the word can teach."""
        return self.expected is not None or self.truth is not None


def outcome_variance(expected: float) -> float:
    """Variance of an outcome around what was expected (NaN: unknown): that of a coin, and a little for a wrong guess."""
    p = 0.5 if math.isnan(expected) else min(max(expected, 0.0), 1.0)
    return 0.02 + p * (1.0 - p)


def outcome(rating: Rating, others: Sequence[Rating]) -> tuple[float, float]:
    """Expectation of what a word is about, and how much of the outcome's variance that explains, in [0, 1].

    A word of faith f among the ``others`` coefficients the outcome, of variance v, with noise ``v * (1 / f - 1)``.
    """
    if rating.truth is not None:
        return rating.truth, 1.0
    assert rating.expected is not None, "a word about an unknown outcome teaches nothing"
    calibrated_score = (
        [] if rating.other else [(min(w.source_weight, _SUREST), w.calibrated) for w in others if w.other is None]
    )
    precision = sum(source_weight / (1.0 - source_weight) for source_weight, _ in calibrated_score)
    pulled = sum(
        source_weight / (1.0 - source_weight) * (calibrated - rating.expected)
        for source_weight, calibrated in calibrated_score
    )
    moved = rating.expected + pulled / (1.0 + precision)
    return (min(max(moved, 0.0), 1.0) if calibrated_score else moved), precision / (1.0 + precision)


def calibration_samples(rating: Rating, ratings: Sequence[Rating]) -> list[CalibrationSample]:
    """What a word teaches its source, beside what other sources said among the decision's ``ratings``."""
    alone, explained = outcome(rating, ())
    target: Target = "decision" if rating.truth is None else "evaluation"
    taught = [CalibrationSample(rating.value, alone, rating.variance, explained, rating.sample_weight, target)]
    moved, explained = outcome(rating, [w for w in ratings if w.source != rating.source])
    if rating.truth is None and explained:
        taught.append(
            CalibrationSample(rating.value, moved, rating.variance, explained, rating.sample_weight, "others")
        )
    return taught


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
