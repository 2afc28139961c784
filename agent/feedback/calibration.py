"""How sources and raters read the truth: a line for every source, a doubt about every rater.

What a source says of outcome x is taken as ``y = a + b x + noise``. The line is the posterior mean of a Bayesian linear
regression (Bishop 2006, section 3.3), a closed form of eight sums, so that a word can be taken out of it again. What a
rater says is compared with two stories: an honest one, who follows the source's line at a level of their own, and a
content-blind one, whose words do not depend on the answer. Their likelihood ratio is the rater's doubt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal["score", "comparison"]

Target = Literal["decision", "others", "evaluation"]
"""What an outcome is known by: the decision's expectation alone, what other sources said too, or an evaluation."""

TARGETS: tuple[Target, ...] = get_args(Target)

_NONE = 1e-9

MAX_UNVERIFIED_WEIGHT = 200.0
"""Words about outcomes that were not evaluated weigh like at most so many: what was expected of them may be off itself."""

NOISE: dict[Kind, float] = {"score": 0.15, "comparison": 0.6}
"""Variance of a word around its line before data say better; a comparison reads in [-1, 1], a score in [0, 1]."""

INTERCEPT_SD, SLOPE_SD = 0.15, 0.2
"""How far a source's line may lie from ``y = x``."""

LEAST_SLOPE = 0.3
"""A source that says less than this of the truth is not stretched further."""

LEAST_NOISE = 0.5
"""Nor is one taken to be surer than this beside a clean evaluation: who always says the same is sure, and says nothing."""

OFFSET_SD = 0.1
"""How far a rater may stand above or below their source."""

_PRIOR_WEIGHT = 20.0
"""Words that the prior noise weighs like."""

_PRIOR_LOG_ODDS = 3.0
"""Of honesty, before anything was said: 95 %."""

_MIN_SPAM_LOG_ODDS, _MAX_SPAM_LOG_ODDS = -6.0, 12.0
"""Bounds of a doubt: neither a long good record nor a long bad one outlives a change of manners."""


@dataclass(frozen=True, slots=True)
class CalibrationSample:
    """A word beside what it was about.

    Parameters
    ----------
    value
        The word: a score in [0, 1], or a comparison in [-1, 1].
    outcome
        Expectation of the truth, in the same range, of everything but this word and (for its source) its source's.
    variance
        Of the truth around what the decision expected.
    explained
        Share of that variance which ``outcome`` already tells, in [0, 1].
    weight
        Weight of the sample.
    target
        What tells of the outcome.
    """

    value: float
    outcome: float
    variance: float
    explained: float
    weight: float
    target: Target


@dataclass(frozen=True, slots=True)
class AffineCalibration:
    """A source's line.

    Parameters
    ----------
    intercept, slope
        Of ``y = a + b x``.
    noise
        Variance of a word beside that of a clean evaluation, at least `LEAST_NOISE`.
    """

    intercept: float
    slope: float
    noise: float

    @property
    def weight(self) -> float:
        """What a word of the source is worth beside a clean evaluation, in (0, 1]."""
        return min(1.0, self.slope**2 / self.noise)

    def expects(self, outcome: float) -> float:
        """The word to expect of an outcome."""
        return self.intercept + self.slope * outcome


_TERMS = 8
"""Sums of a line: weight, x, x^2, y, xy, y^2, variance, explained variance."""


@dataclass(slots=True)
class SourceCalibration:
    """The sums of one source's lessons of one kind, by `Target`; ``ratings`` counts what was heard.

    Those about outcomes that were not evaluated weigh like at most ``max_unverified_weight``.
    """

    kind: Kind
    n_ratings: int = 0
    sums: dict[Target, list[float]] = field(default_factory=lambda: {target: [0.0] * _TERMS for target in TARGETS})
    max_unverified_weight: float = MAX_UNVERIFIED_WEIGHT

    def update(self, sample: CalibrationSample, sign: float = 1.0) -> None:
        """Add a sample."""
        x, y, w = sample.outcome, sample.value, sign * sample.weight
        terms = (1.0, x, x * x, y, x * y, y * y, sample.variance, sample.variance * sample.explained)
        sums = self.sums[sample.target]
        for i, term in enumerate(terms):
            sums[i] += w * term

    def downdate(self, sample: CalibrationSample) -> None:
        """Take a sample out again."""
        self.update(sample, -1.0)

    def affine(self) -> AffineCalibration:
        """The line as known now.

        Examples
        --------
        >>> judge = SourceCalibration("score")
        >>> for i in range(1000):
        ...     truth = i % 2
        ...     judge.update(CalibrationSample(0.8 * truth, truth, 0.25, 1.0, 1.0, "evaluation"))
        >>> source = judge.affine()
        >>> round(source.intercept, 2), round(source.slope, 2), round(source.noise, 2)
        (-0.0, 0.8, 0.65)
        """
        n, x, xx, y, xy, yy, variance, explained = self._total()
        noise = NOISE[self.kind]
        known_intercept, known_slope = n + noise / INTERCEPT_SD**2, xx + noise / SLOPE_SD**2
        pulled = xy + noise / SLOPE_SD**2
        slope = (known_intercept * pulled - x * y) / (known_intercept * known_slope - x * x)
        slope = max(slope, LEAST_SLOPE)
        intercept = (y - slope * x) / known_intercept
        missed = yy + intercept**2 * n + slope**2 * xx + 2.0 * (intercept * slope * x - intercept * y - slope * xy)
        spread = max(missed, 0.0) + slope**2 * explained
        return AffineCalibration(
            intercept, slope, max(LEAST_NOISE, (spread + _PRIOR_WEIGHT * noise) / (variance + _PRIOR_WEIGHT * noise))
        )

    def _total(self) -> list[float]:
        """The sums over all bases, those of mere guesses shrunken to what these may weigh."""
        total = [0.0] * _TERMS
        for target, sums in self.sums.items():
            share = (
                1.0
                if target == "evaluation"
                else self.max_unverified_weight / (self.max_unverified_weight + sums[0] + _NONE)
            )
            total = [t + share * v for t, v in zip(total, sums)]
        return total


@dataclass(slots=True)
class RatingSums:
    """Sums over a rater's words of one kind: how many, the outcomes they were about, and what was said."""

    n_ratings: float = 0.0
    outcomes: float = 0.0
    value: float = 0.0


@dataclass(slots=True)
class RaterReliability:
    """What is known of one rater.

    Parameters
    ----------
    spam_log_odds
        Log-likelihood ratio of a content-blind over an honest rater.
    scores, comparisons
        What they said of each kind.
    """

    spam_log_odds: float = 0.0
    scores: RatingSums = field(default_factory=RatingSums)
    comparisons: RatingSums = field(default_factory=RatingSums)

    @property
    def reliability(self) -> float:
        """Probability that the rater is honest."""
        return 1.0 / (1.0 + math.exp(self.spam_log_odds - _PRIOR_LOG_ODDS))

    def tally(self, kind: Kind) -> RatingSums:
        """Of one kind of words."""
        return self.scores if kind == "score" else self.comparisons

    def offset(self, kind: Kind, source: AffineCalibration) -> float:
        """How far above the source's line the rater speaks: a mean, shrunken to 0."""
        t = self.tally(kind)
        above = t.value - source.intercept * t.n_ratings - source.slope * t.outcomes
        return above / (t.n_ratings + NOISE[kind] / OFFSET_SD**2)

    def update(self, kind: Kind, value: float, outcome: float, source: AffineCalibration) -> float:
        """Take a word in; returns what it added to the doubt, for `downdate`."""
        t = self.tally(kind)
        honest = _within(_unit(kind, source.expects(outcome) + self.offset(kind, source)), 0.05)
        blind = _within(
            (_unit(kind, t.value / t.n_ratings) * t.n_ratings + 0.5 if t.n_ratings > 0 else 0.5) / (t.n_ratings + 1.0),
            0.02,
        )
        up = _unit(kind, value)
        log_odds = up * math.log(blind / honest) + (1.0 - up) * math.log((1.0 - blind) / (1.0 - honest))
        self._add(t, 1.0, value, outcome, log_odds)
        return log_odds

    def downdate(self, kind: Kind, value: float, outcome: float, log_odds: float) -> None:
        """Take a word out again."""
        if self.tally(kind).n_ratings >= 1.0:  # else the record was forgotten meanwhile
            self._add(self.tally(kind), -1.0, value, outcome, log_odds)

    def _add(self, tally: RatingSums, sign: float, value: float, outcome: float, log_odds: float) -> None:
        tally.n_ratings += sign
        tally.value += sign * value
        tally.outcomes += sign * outcome
        self.spam_log_odds = min(max(self.spam_log_odds + sign * log_odds, _MIN_SPAM_LOG_ODDS), _MAX_SPAM_LOG_ODDS)


def _unit(kind: Kind, value: float) -> float:
    """A word as a probability that it is good."""
    return value if kind == "score" else (1.0 + value) / 2.0


def _within(value: float, margin: float) -> float:
    return min(max(value, margin), 1.0 - margin)
