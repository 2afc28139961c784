"""What is known of raters: how reliable each is, its offset from its source's regression, and of a judge its offsets by model.

A rater's ratings are explained either as honest, by the source's regression and an offset of the rater's own, or as spam,
independent of the answer; the log-likelihood ratio of the two gives the rater's reliability. A judge's offset for a model rests
on answers whose quality other sources tell. By what decisions expected alone, a model that got better would pass for one that
the judge likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

from agent.feedback.calibration import PRIOR_NOISE, AffineCalibration, Kind

OFFSET_SD = 0.1
"""Prior standard deviation of a rater's offset from the source's regression."""

MODELS = 200
"""Models of which a rater's offsets are held; the one that was met first goes first."""

_PRIOR_LOG_ODDS = 3.0
"""Prior log-odds that a rater is honest: 95 %."""

_MIN_SPAM_LOG_ODDS, _MAX_SPAM_LOG_ODDS = -6.0, 12.0
"""Bounds of the evidence on a rater, so that one who changes is noticed within some ratings."""


@dataclass(slots=True)
class RatingSums:
    """Sums over a rater's ratings of one kind: their number (or weight), their outcomes and their values."""

    n_ratings: float = 0.0
    outcomes: float = 0.0
    value: float = 0.0

    def copy(self) -> Self:
        """One that changes apart from this one."""
        return type(self)(self.n_ratings, self.outcomes, self.value)


@dataclass(slots=True)
class RaterReliability:
    """Evidence on one rater.

    Parameters
    ----------
    spam_log_odds
        Log-likelihood ratio of a spammer over an honest rater.
    scores, comparisons
        Sums over the rater's ratings.
    models
        model -> sums over the scores of its answers, each weighted by how far its outcome is known from other sources.
    """

    spam_log_odds: float = 0.0
    scores: RatingSums = field(default_factory=RatingSums)
    comparisons: RatingSums = field(default_factory=RatingSums)
    models: dict[str, RatingSums] = field(default_factory=dict)

    def copy(self) -> Self:
        """One that changes apart from this one."""
        models = {model: sums.copy() for model, sums in self.models.items()}
        return type(self)(self.spam_log_odds, self.scores.copy(), self.comparisons.copy(), models)

    @property
    def reliability(self) -> float:
        """Probability that the rater is honest."""
        return 1.0 / (1.0 + math.exp(self.spam_log_odds - _PRIOR_LOG_ODDS))

    def sums(self, kind: Kind) -> RatingSums:
        """Those of one kind."""
        return self.scores if kind == "score" else self.comparisons

    def offset(self, kind: Kind, source: AffineCalibration) -> float:
        """How far the rater's ratings lie above the source's regression: a mean, shrunken to 0."""
        s = self.sums(kind)
        above = s.value - source.intercept * s.n_ratings - source.slope * s.outcomes
        return above / (s.n_ratings + PRIOR_NOISE[kind] / OFFSET_SD**2)

    def model_offset(self, model: str, source: AffineCalibration, offset: float) -> float:
        """How far the rater's scores of a model's answers lie above the source's regression and the rater's own ``offset``: a
        mean, shrunken to 0."""
        s = self.models.get(model)
        if s is None:
            return 0.0
        above = s.value - (source.intercept + offset) * s.n_ratings - source.slope * s.outcomes
        return above / (s.n_ratings + PRIOR_NOISE["score"] / OFFSET_SD**2)

    def update_model(self, model: str, value: float, outcome: float, weight: float) -> None:
        """Add a score of a model's answer; ``weight``: how far the outcome is known, negative to subtract it."""
        s = self.models.setdefault(model, RatingSums())
        s.n_ratings = max(s.n_ratings + weight, 0.0)
        s.outcomes += weight * outcome
        s.value += weight * value
        if s.n_ratings < 1e-9:
            del self.models[model]
        elif len(self.models) > MODELS:
            del self.models[next(iter(self.models))]

    def update(self, kind: Kind, value: float, outcome: float, source: AffineCalibration, trust: float = 1.0) -> float:
        """Add a rating; returns what it added to the spam log-odds, for `downdate`.

        ``trust``, in [0, 1]: how far the outcome is believed, for a rater is not found out by a guess.
        """
        s = self.sums(kind)
        expected = source.intercept + source.slope * outcome
        honest = _clip(_probability(kind, expected + self.offset(kind, source)), 0.05)
        spam = _clip(
            (_probability(kind, s.value / s.n_ratings) * s.n_ratings + 0.5 if s.n_ratings > 0 else 0.5)
            / (s.n_ratings + 1.0),
            0.02,
        )
        up = _probability(kind, value)
        log_odds = trust * (up * math.log(spam / honest) + (1.0 - up) * math.log((1.0 - spam) / (1.0 - honest)))
        self._add(s, 1.0, value, outcome, log_odds)
        return log_odds

    def downdate(self, kind: Kind, value: float, outcome: float, log_odds: float) -> None:
        """Subtract a rating."""
        if self.sums(kind).n_ratings >= 1.0:  # else the rater was dropped and came back meanwhile
            self._add(self.sums(kind), -1.0, value, outcome, log_odds)

    def _add(self, sums: RatingSums, sign: float, value: float, outcome: float, log_odds: float) -> None:
        sums.n_ratings += sign
        sums.value += sign * value
        sums.outcomes += sign * outcome
        self.spam_log_odds = min(max(self.spam_log_odds + sign * log_odds, _MIN_SPAM_LOG_ODDS), _MAX_SPAM_LOG_ODDS)


def _probability(kind: Kind, value: float) -> float:
    """A rating as a probability that the answer is good."""
    return value if kind == "score" else (1.0 + value) / 2.0


def _clip(value: float, margin: float) -> float:
    return min(max(value, margin), 1.0 - margin)
