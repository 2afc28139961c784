"""The ledger: what every word of feedback is worth, learned from all that was said before it.

A word is calibrated by its source's line, weighed by its rater's record, and rationed: whoever speaks much, and whatever
is much spoken of, adds less and less. What the truth was, nobody tells; it is expected to be what the decision expected,
moved to what others said of the same decision, or it is known where the same answer was evaluated.

The ledger is a function of the ordered log alone, so every replica computes the same; its state is JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol, Self

from agent.feedback.calibration import (
    MAX_UNVERIFIED_WEIGHT,
    TARGETS,
    AffineCalibration,
    Kind,
    RaterReliability,
    RatingSums,
    SourceCalibration,
    Target,
)
from agent.feedback.quota import LogRow, QuotaConfig, WeightQuota
from agent.feedback.ratings import Rating, calibration_samples, outcome
from agent.online.drift import drift_adjustment
from agent.types import Drift, Observation

Truth = Callable[[str, str], float | None]
"""(prompt id, model) -> its evaluated score, where there is one."""


_LEAST_WEIGHT = 0.01
"""A mean that weighs less is not known at all."""


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """What the ledger allows and remembers.

    Parameters
    ----------
    quota
        What raters and keys may weigh on a task.
    decision_cap
        Most that all feedback on one decision may weigh, in units of a clean evaluation.
    decisions
        Decisions held, latest first, so that their words can be revised and compared.
    ratings
        Words held of one decision; later ones are weighed, but teach nothing about sources and raters.
    raters
        Raters remembered, latest first.
    """

    quota: QuotaConfig = field(default_factory=QuotaConfig)
    decision_cap: float = 2.0
    decisions: int = 2048
    ratings: int = 8
    raters: int = 10_000


@dataclass(frozen=True, slots=True)
class CalibratedScore:
    """What a word says, and what it weighs.

    Parameters
    ----------
    value
        Estimate of the answer's quality (of a comparison: of its quality less the other's), unbiased rather than clipped.
    weight
        In [0, 1], beside a clean evaluation.
    """

    value: float
    weight: float


class Scored(LogRow, Protocol):
    """A row of the log that scores an answer."""

    @property
    def seq(self) -> int: ...
    @property
    def prompt_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def score(self) -> float: ...


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What is known of a source: ``y = bias + slope * truth``, ``noise`` times a clean evaluation's; its ``weight``."""

    source: str
    kind: Kind
    n_ratings: int
    bias: float
    slope: float
    noise: float
    weight: float


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What is known of a rater: probability of honesty as ``weight``, and how far above the source's line they speak."""

    source: str
    rater: str
    n_ratings: int
    weight: float
    offset: float


@dataclass(slots=True)
class DecisionRatings:
    """A decision: what its feedback weighs together, and the words that are held of it."""

    used_weight: float = 0.0
    ratings: list[Rating] = field(default_factory=list)

    def outcome(self, rating: Rating) -> float:
        """What a word is about, given all others."""
        return outcome(rating, [w for w in self.ratings if w is not rating])[0]


class Ledger:
    """Hears feedback in the log's order.

    Parameters
    ----------
    config
        See `LedgerConfig`.
    truth
        Looks evaluations up; a live replica has none.
    n_evaluated
        Evaluated prompts that the decisions' expectations rest on. What nobody evaluated cannot blame a source: without
        grounds, an optimist would take every honest source for a harsh one.

    Examples
    --------
    >>> import numpy as np
    >>> from agent.types import Encoded
    >>> ledger, prompt = Ledger(), Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
    >>> for i in range(400):  # a judge who takes off 0.2
    ...     truth = 0.3 + 0.4 * (i % 2)
    ...     rating = Observation(i, f"d{i}", "p", "m", truth - 0.2, "judge", "", prompt, expected=truth)
    ...     calibrated_score = ledger.learn_one(rating)
    >>> abs(calibrated_score.value - 0.7) < 0.05, calibrated_score.weight > 0.8
    (True, True)
    """

    def __init__(
        self,
        config: LedgerConfig = LedgerConfig(),
        truth: Truth | None = None,
        n_evaluated: float = MAX_UNVERIFIED_WEIGHT,
    ) -> None:
        self.config = config
        self._max_unverified_weight = min(MAX_UNVERIFIED_WEIGHT, n_evaluated)
        self._truth = truth
        self._sources: dict[tuple[str, Kind], SourceCalibration] = {}
        self._raters: dict[tuple[str, str], RaterReliability] = {}
        self._quota = WeightQuota(config.quota)
        self._decisions: dict[str, DecisionRatings] = {}

    def learn_one(self, observation: Observation) -> CalibratedScore:
        """Take the next row of the log in: what it says, and what it weighs.

        A revision replaces the word that it revises where that is still held, and teaches nothing where it is not.
        """
        decision = self._decision(observation.decision_id)
        truths = (self._evaluated(observation, model) for model in (observation.model, observation.other))
        rating = Rating.of(observation, *truths)
        self._downdate(decision)
        before = next((w for w in decision.ratings if w.who == rating.who), None)
        if before is not None:
            decision.ratings.remove(before)
            decision.used_weight = max(decision.used_weight - before.weight, 0.0)
            self._quota.consume(observation, -before.weight)
        calibrated_score = self._weigh(decision, rating, observation)
        decision.used_weight += calibrated_score.weight
        self._quota.consume(observation, calibrated_score.weight)
        is_new = before is None and observation.revises is None
        self._source(rating).n_ratings += is_new
        if before is not None or (is_new and len(decision.ratings) < self.config.ratings):
            decision.ratings.append(rating)
        self._update(decision)
        return calibrated_score

    def predict_one(self, source: str, rater: str, score: float) -> CalibratedScore:
        """What a score says and weighs by all that was heard until now, rations apart; nothing is learned of it."""
        calibration = self._sources.get((source, "score"), SourceCalibration("score")).affine()
        return _calibrate(score, "score", calibration, self._raters.get((source, rater)))

    def mean_scores(
        self, rows: Iterable[Scored], drifts: Sequence[Drift] = ()
    ) -> dict[tuple[str, str], CalibratedScore]:
        """(prompt, model) -> what its scores say together and weigh together, at most 1; no comparison, nothing revised.

        Rows are rationed among themselves, so they come in the log's order. Those from before a model changed
        (``drifts``) are moved by as much as it did, and count for little.
        """
        quota = WeightQuota(self.config.quota)
        sums: dict[tuple[str, str], tuple[float, float]] = {}  # (weight, weight * score)
        for row in rows:
            rating = self.predict_one(row.source, row.rater, row.score)
            weight = rating.weight * quota.remaining(row)
            quota.consume(row, weight)
            shift, counts = drift_adjustment(row.model, row.seq, drifts)
            weight *= counts
            total, weighted = sums.get((row.prompt_id, row.model), (0.0, 0.0))
            sums[row.prompt_id, row.model] = (total + weight, weighted + weight * (rating.value + shift))
        return {
            pair: CalibratedScore(weighted / total, min(total, 1.0))
            for pair, (total, weighted) in sums.items()
            if total >= _LEAST_WEIGHT
        }

    def sources(self) -> tuple[SourceReport, ...]:
        """Every source that spoke, by name and kind."""
        reports = []
        for (source, kind), calibration in sorted(self._sources.items()):
            a = calibration.affine()
            reports.append(SourceReport(source, kind, calibration.n_ratings, a.intercept, a.slope, a.noise, a.weight))
        return tuple(reports)

    def raters(self, limit: int | None = None) -> tuple[RaterReport, ...]:
        """Named raters, the least reliable first."""
        affine = {source: found.affine() for (source, kind), found in self._sources.items() if kind == "score"}
        reports = [
            RaterReport(
                source,
                rater,
                int(record.scores.n_ratings + record.comparisons.n_ratings),
                record.reliability,
                record.offset("score", affine[source]) if source in affine else 0.0,
            )
            for (source, rater), record in self._raters.items()
        ]
        return tuple(sorted(reports, key=lambda r: (r.weight, -r.n_ratings, r.source, r.rater))[:limit])

    def state(self) -> dict[str, Any]:
        """Everything learned, as JSON."""
        return {
            "sources": [
                [*which, found.n_ratings, {target: list(sums) for target, sums in found.sums.items()}]
                for which, found in self._sources.items()
            ],
            "raters": [
                [*who, r.spam_log_odds, astuple(r.scores), astuple(r.comparisons)] for who, r in self._raters.items()
            ],
            "quota": self._quota.state(),
            "decisions": [
                [name, decision.used_weight, [astuple(w) for w in decision.ratings]]
                for name, decision in self._decisions.items()
            ],
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any] | None,
        config: LedgerConfig = LedgerConfig(),
        truth: Truth | None = None,
        n_evaluated: float = MAX_UNVERIFIED_WEIGHT,
    ) -> Self:
        """A ledger that goes on where `state` was taken; a new one for None."""
        ledger = cls(config, truth, n_evaluated)
        if state is None:
            return ledger
        for source, kind, n_ratings, sums in state["sources"]:
            known: dict[Target, list[float]] = {target: list(sums[target]) for target in TARGETS}
            ledger._sources[source, kind] = SourceCalibration(kind, n_ratings, known, ledger._max_unverified_weight)
        for source, rater, spam_log_odds, scores, comparisons in state["raters"]:
            ledger._raters[source, rater] = RaterReliability(
                spam_log_odds, RatingSums(*scores), RatingSums(*comparisons)
            )
        ledger._quota.restore(state["quota"])
        for name, used_weight, ratings in state["decisions"]:
            ledger._decisions[name] = DecisionRatings(used_weight, [Rating(*rating) for rating in ratings])
        return ledger

    def _evaluated(self, o: Observation, model: str | None) -> float | None:
        """What a model scored on a row's prompt in an evaluation, where there was one."""
        return None if self._truth is None or model is None else self._truth(o.prompt_id, model)

    def _weigh(self, decision: DecisionRatings, rating: Rating, o: Observation) -> CalibratedScore:
        """Calibrate and weigh a word by all that was heard before it."""
        rater, affine = self._rater(rating), self._source(rating).affine()
        read = _calibrate(rating.value, rating.kind, affine, rater)
        remaining = self._quota.remaining(o)
        rating.calibrated, rating.source_weight = read.value, read.weight
        rating.sample_weight = remaining * (rater.reliability if rater else 1.0)
        rating.weight = read.weight * remaining * (1.0 - min(decision.used_weight / self.config.decision_cap, 1.0))
        return CalibratedScore(read.value, rating.weight)

    def _update(self, decision: DecisionRatings) -> None:
        """Let every word of a decision teach its source and its rater, beside what the others said."""
        for rating in decision.ratings:
            if not rating.is_about_something:
                continue
            for sample in calibration_samples(rating, decision.ratings):
                self._source(rating).update(sample)
            record = self._raters.get((rating.source, rating.rater))
            if record is not None:
                rating.log_odds = record.update(
                    rating.kind, rating.value, decision.outcome(rating), self._source(rating).affine()
                )

    def _downdate(self, decision: DecisionRatings) -> None:
        """Take back what the words of a decision taught."""
        for rating in decision.ratings:
            if not rating.is_about_something:
                continue
            for sample in calibration_samples(rating, decision.ratings):
                self._source(rating).downdate(sample)
            record = self._raters.get((rating.source, rating.rater))
            if record is not None and rating.log_odds is not None:
                record.downdate(rating.kind, rating.value, decision.outcome(rating), rating.log_odds)
            rating.log_odds = None

    def _decision(self, decision_id: str) -> DecisionRatings:
        decision = self._decisions.pop(decision_id, None) or DecisionRatings()
        self._decisions[decision_id] = decision
        if len(self._decisions) > self.config.decisions:
            del self._decisions[next(iter(self._decisions))]
        return decision

    def _source(self, rating: Rating) -> SourceCalibration:
        return self._sources.setdefault(
            (rating.source, rating.kind),
            SourceCalibration(rating.kind, max_unverified_weight=self._max_unverified_weight),
        )

    def _rater(self, rating: Rating) -> RaterReliability | None:
        """The record of who spoke, the latest last; None for nobody in particular."""
        if not rating.rater:
            return None
        who = (rating.source, rating.rater)
        record = self._raters.pop(who, None) or RaterReliability()
        self._raters[who] = record
        if len(self._raters) > self.config.raters:
            oldest = next(iter(self._raters))
            del self._raters[oldest]
            self._quota.forget(oldest)
        return record


def _calibrate(value: float, kind: Kind, source: AffineCalibration, rater: RaterReliability | None) -> CalibratedScore:
    """What a word says by its source's line and its rater's record (None: nobody's), before any cap."""
    offset, reliability = (rater.offset(kind, source), rater.reliability) if rater else (0.0, 1.0)
    return CalibratedScore((value - source.intercept - offset) / source.slope, source.weight * reliability)
