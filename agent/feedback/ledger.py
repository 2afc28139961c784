"""The ledger: turns each row of the feedback log into a quality estimate with a weight.

A rating is calibrated by its source's regression, weighted by its rater's reliability, and capped per rater, API key and
decision. True quality is not observed: its prior is the router's estimate at decision time, updated by other sources'
ratings; where the answer was evaluated, be it by a row of the log of the source ``evaluation``, it is known.

The ledger is a function of the ordered log alone, so every replica computes the same; its state is JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Protocol, Self

from agent.feedback.calibration import (
    EXACT,
    MAX_UNVERIFIED_WEIGHT,
    TARGETS,
    AffineCalibration,
    EvaluatedScore,
    Kind,
    Rating,
    SourceCalibration,
    calibration_samples,
    outcome,
)
from agent.feedback.quota import LogRow, QuotaConfig, WeightQuota
from agent.feedback.raters import RaterReliability, RatingSums
from agent.feedback.reports import ModelOffset, RaterReport, SourceReport
from agent.observations import CalibratedScore, Drift, Observation
from agent.online.drift import drift_adjustment

_MIN_MEAN_WEIGHT = 0.01
"""A mean score of less weight is left out."""


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """Caps of the ledger, and how much it holds.

    Parameters
    ----------
    quota
        Caps on raters and keys.
    decision_cap
        Most that all ratings of one decision may weigh, in units of a clean evaluation.
    decisions
        Latest decisions whose ratings are held, so that they can be revised and compared.
    ratings
        Ratings held of one decision; later ones are weighed, but do not update sources and raters.
    raters
        Latest raters held.
    first_weight, familiar
        A source of which no rating is known yet counts as a noisy one: factor on the weight of its first rating, and number
        of ratings after which half of what that lacks of 1 is made up.
    """

    quota: QuotaConfig = field(default_factory=QuotaConfig)
    decision_cap: float = 1.0
    decisions: int = 2048
    ratings: int = 8
    raters: int = 10_000
    first_weight: float = 0.25
    familiar: float = 10.0

    def familiarity(self, n_ratings: int) -> float:
        """Factor on the weight of a rating, in (0, 1], where so many of its source were known before it.

        Examples
        --------
        >>> [round(LedgerConfig().familiarity(n), 2) for n in (0, 10, 100)]
        [0.25, 0.62, 0.93]
        """
        return 1.0 - (1.0 - self.first_weight) * self.familiar / (self.familiar + n_ratings)


class Scored(LogRow, Protocol):
    """A row of the log that scores an answer."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def score(self) -> float: ...


@dataclass(slots=True)
class DecisionRatings:
    """What a decision's ratings weigh together, and those that are held; ``model`` is the one whose answer they rate."""

    used_weight: float = 0.0
    ratings: list[Rating] = field(default_factory=list)
    model: str = ""

    def take_over_truth(self) -> None:
        """Let a true score of the answer, where one is held, be the outcome of the other scores."""
        for truth in (r for r in self.ratings if r.source == EXACT and r.other is None):
            for rating in self.ratings:
                if rating.other is None:
                    rating.evaluated = truth.value


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """What a row changes in a ledger: its ``score``, and ``copies`` of what it touches, changed."""

    observation: Observation
    score: CalibratedScore
    copies: Ledger


class Ledger:
    """Learns from the rows of the log, in order.

    Parameters
    ----------
    config
        See `LedgerConfig`.
    evaluated_score
        Looks evaluations up; a live replica has none.
    n_evaluated
        Evaluated prompts that the decisions' expectations rest on. It caps the weight of samples whose outcomes were not
        evaluated: where the router's own estimates are too high, every honest source would seem harsh.
    optimism
        By how much decisions expected too much, see `agent.choice.utility.fit_optimism`.

    Examples
    --------
    >>> import numpy as np
    >>> from agent.types import Encoded
    >>> ledger, prompt = Ledger(), Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
    >>> for i in range(400):  # a judge who takes off 0.2
    ...     quality = 0.3 + 0.4 * (i % 2)
    ...     row = Observation(i, f"d{i}", "p", "m", quality - 0.2, "judge", "", prompt, expected=quality)
    ...     score = ledger.learn_one(row)
    >>> abs(score.value - 0.7) < 0.05, score.weight > 0.8
    (True, True)
    """

    def __init__(
        self,
        config: LedgerConfig = LedgerConfig(),
        evaluated_score: EvaluatedScore | None = None,
        n_evaluated: float = MAX_UNVERIFIED_WEIGHT,
        optimism: float = 0.0,
    ) -> None:
        self.config = config
        self._optimism = optimism
        self._max_unverified_weight = min(MAX_UNVERIFIED_WEIGHT, n_evaluated)
        self._trust = self._max_unverified_weight / MAX_UNVERIFIED_WEIGHT  # in what decisions expected
        self._evaluated_score = evaluated_score
        self._sources: dict[tuple[str, Kind], SourceCalibration] = {}
        self._raters: dict[tuple[str, str], RaterReliability] = {}
        self._quota = WeightQuota(config.quota)
        self._decisions: dict[str, DecisionRatings] = {}

    def learn_one(self, observation: Observation) -> CalibratedScore:
        """Calibrate and weigh the next row of the log, and update its source and rater; where it raises, nothing changes.

        A revision replaces the rating that it revises where that is still held. Where it is not, it is calibrated and
        weighed, but updates neither and consumes no weight: the rating that it revises has done both.
        """
        change = self.prepare(observation)
        self.apply(change)
        return change.score

    def prepare(self, observation: Observation) -> LedgerChange:
        """What `learn_one` changes, computed on copies; `apply` makes the change."""
        copies = copy(self)
        held = self._decisions.get(observation.decision_id)
        ratings = [replace(rating) for rating in held.ratings] if held else []
        sources = {(r.source, r.kind) for r in ratings}
        raters = {(r.source, r.rater) for r in ratings} | {(observation.source, observation.rater)}
        sources.add((observation.source, "score" if observation.other is None else "comparison"))
        copies._decisions = (
            {observation.decision_id: DecisionRatings(held.used_weight, ratings, held.model)} if held else {}
        )
        copies._sources = {key: self._sources[key].copy() for key in sources if key in self._sources}
        copies._raters = {key: self._raters[key].copy() for key in raters if key in self._raters}
        copies._quota = self._quota.touched(observation)
        return LedgerChange(observation, copies._learn_one(observation), copies)

    def apply(self, change: LedgerChange) -> None:
        """Make a change that was prepared since the last one."""
        row, copies = change.observation, change.copies
        self._decisions.pop(row.decision_id, None)
        self._decisions |= copies._decisions
        if len(self._decisions) > self.config.decisions:
            del self._decisions[next(iter(self._decisions))]
        self._raters.pop((row.source, row.rater), None)
        self._raters |= copies._raters
        self._sources |= copies._sources
        self._quota.update(copies._quota)
        if len(self._raters) > self.config.raters:
            oldest = next(iter(self._raters))
            del self._raters[oldest]
            self._quota.used.pop(oldest, None)

    def _learn_one(self, observation: Observation) -> CalibratedScore:
        decision = self._decision(observation.decision_id)
        decision.model = observation.model
        rating = Rating.of(observation, self._evaluated_score, self._optimism)
        self._update(decision, -1.0)
        revised = next((w for w in decision.ratings if w.identity == rating.identity), None)
        if revised is not None:
            decision.ratings.remove(revised)
            decision.used_weight = max(decision.used_weight - revised.weight, 0.0)
            self._quota.consume(observation, -revised.weight)
        is_new = revised is None and observation.revises is None
        score = self._weigh(decision, rating, observation, is_new)
        self._source(rating).n_ratings += is_new
        if is_new or revised is not None:
            decision.used_weight += score.weight
            self._quota.consume(observation, score.weight)
            if len(decision.ratings) < self.config.ratings:
                decision.ratings.append(rating)
                decision.take_over_truth()
        self._update(decision)
        return score

    def predict_one(self, source: str, rater: str, score: float, model: str = "") -> CalibratedScore:
        """What `learn_one` would give a score of an answer by ``model`` now, caps apart; nothing is updated."""
        if source == EXACT:
            return CalibratedScore(score, 1.0)
        found = self._sources.get((source, "score"), SourceCalibration("score"))
        return self._calibrate(score, found, found.n_ratings, self._raters.get((source, rater)), model)

    def mean_scores(
        self, rows: Iterable[Scored], drifts: Sequence[Drift] = ()
    ) -> dict[tuple[str, str], CalibratedScore]:
        """(prompt, model) -> weighted mean of its calibrated scores, and their weight together, at most 1.

        Parameters
        ----------
        rows
            Scores, no comparisons, one of each (decision, source, rater), in the log's order: quotas apply among them.
        drifts
            A score from before its model changed is shifted by the change, and weighs little.
        """
        quota = WeightQuota(self.config.quota)
        sums: dict[tuple[str, str], tuple[float, float]] = {}  # (weight, weight * score)
        for row in rows:
            score = self.predict_one(row.source, row.rater, row.score, row.model)
            weight = score.weight * quota.remaining(row)
            quota.consume(row, weight)
            shift, factor = drift_adjustment(row.model, row.seq, drifts)
            weight *= factor
            total, weighted = sums.get((row.prompt_id, row.model), (0.0, 0.0))
            sums[row.prompt_id, row.model] = (total + weight, weighted + weight * (score.value + shift))
        return {
            pair: CalibratedScore(weighted / total, min(total, 1.0))
            for pair, (total, weighted) in sums.items()
            if total >= _MIN_MEAN_WEIGHT
        }

    def sources(self) -> tuple[SourceReport, ...]:
        """Every source with ratings, by name and kind."""
        reports = []
        for (source, kind), calibration in sorted(self._sources.items()):
            a = calibration.affine()
            weight = 1.0 if source == EXACT else a.weight * self.config.familiarity(calibration.n_ratings)
            reports.append(SourceReport(source, kind, calibration.n_ratings, a.intercept, a.slope, a.noise, weight))
        return tuple(reports)

    def raters(self, limit: int | None = None) -> tuple[RaterReport, ...]:
        """Named raters, the least reliable first."""
        affine = {source: found.affine() for (source, kind), found in self._sources.items() if kind == "score"}
        reports = [
            RaterReport(
                source,
                rater,
                int(found.scores.n_ratings + found.comparisons.n_ratings),
                found.reliability,
                found.offset("score", affine[source]) if source in affine else 0.0,
                self._model_offsets(found, affine[source]) if source in affine else (),
            )
            for (source, rater), found in self._raters.items()
        ]
        return tuple(sorted(reports, key=lambda r: (r.weight, -r.n_ratings, r.source, r.rater))[:limit])

    def state(self) -> dict[str, Any]:
        """The whole state, as JSON."""
        return {
            "sources": [
                [*which, found.n_ratings, {target: list(sums) for target, sums in found.sums.items()}]
                for which, found in self._sources.items()
            ],
            "raters": [
                [
                    *who,
                    r.spam_log_odds,
                    astuple(r.scores),
                    astuple(r.comparisons),
                    {model: astuple(sums) for model, sums in r.models.items()},
                ]
                for who, r in self._raters.items()
            ],
            "quota": self._quota.state(),
            "decisions": [
                [name, decision.used_weight, [astuple(w) for w in decision.ratings], decision.model]
                for name, decision in self._decisions.items()
            ],
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any] | None,
        config: LedgerConfig = LedgerConfig(),
        evaluated_score: EvaluatedScore | None = None,
        n_evaluated: float = MAX_UNVERIFIED_WEIGHT,
        optimism: float = 0.0,
    ) -> Self:
        """A ledger that goes on where `state` was taken; a new one for None."""
        ledger = cls(config, evaluated_score, n_evaluated, optimism)
        if state is None:
            return ledger
        for source, kind, n_ratings, sums in state["sources"]:
            ledger._sources[source, kind] = SourceCalibration(
                kind, n_ratings, {target: list(sums[target]) for target in TARGETS}, ledger._max_unverified_weight
            )
        for source, rater, spam_log_odds, scores, comparisons, *models in state["raters"]:
            by_model = {model: RatingSums(*sums) for held in models for model, sums in held.items()}
            ledger._raters[source, rater] = RaterReliability(
                spam_log_odds, RatingSums(*scores), RatingSums(*comparisons), by_model
            )
        ledger._quota.restore(state["quota"])
        for name, used_weight, ratings, *model in state["decisions"]:
            ledger._decisions[name] = DecisionRatings(used_weight, [Rating(*rating) for rating in ratings], *model)
        return ledger

    def _weigh(self, decision: DecisionRatings, rating: Rating, row: LogRow, is_new: bool) -> CalibratedScore:
        """Calibrate and weigh a rating by what is known before it."""
        rater, source = self._rater(rating), self._source(rating)
        if rating.source == EXACT:
            score = CalibratedScore(rating.value, 1.0)
        else:
            score = self._calibrate(rating.value, source, source.n_ratings - (not is_new), rater, decision.model)
        remaining = self._quota.remaining(row)
        rating.calibrated, rating.source_weight = score.value, score.weight
        rating.sample_weight = remaining * (rater.reliability if rater else 1.0)
        rating.weight = score.weight * remaining * (1.0 - min(decision.used_weight / self.config.decision_cap, 1.0))
        return CalibratedScore(score.value, rating.weight)

    def _calibrate(
        self, value: float, source: SourceCalibration, n_known: int, rater: RaterReliability | None, model: str
    ) -> CalibratedScore:
        """A rating of an answer by ``model`` as an estimate of quality, and its weight before any cap, where ``n_known`` of its
        source were known before.

        ``rater`` is None for a nameless one.
        """
        affine = source.affine()
        offset, reliability = 0.0, 1.0
        if rater is not None:
            offset, reliability = self._trust * rater.offset(source.kind, affine), rater.reliability
            if source.kind == "score":
                offset += rater.model_offset(model, affine, offset)
        weight = affine.weight * self.config.familiarity(max(n_known, 0)) * reliability
        return CalibratedScore((value - affine.intercept - offset) / affine.slope, weight)

    def _model_offsets(self, rater: RaterReliability, affine: AffineCalibration) -> tuple[ModelOffset, ...]:
        offset = self._trust * rater.offset("score", affine)
        found = [
            ModelOffset(model, sums.n_ratings, rater.model_offset(model, affine, offset))
            for model, sums in rater.models.items()
        ]
        return tuple(sorted(found, key=lambda m: (-abs(m.offset), m.model)))

    def _update(self, decision: DecisionRatings, sign: float = 1.0) -> None:
        """Add the decision's ratings to their sources and raters, each beside the others; with ``sign`` -1, subtract."""
        for rating in decision.ratings:
            if not rating.has_outcome:
                continue
            source, rater = self._source(rating), self._raters.get((rating.source, rating.rater))
            if rater is not None and rating.source == "judge" and rating.other is None:
                mean, known = outcome(rating, [w for w in decision.ratings if w.source != rating.source])
                if known:
                    rater.update_model(decision.model, rating.value, mean, sign * known)
            for sample in calibration_samples(rating, decision.ratings):
                source.update(sample, sign)
            if rater is not None:
                mean, explained = outcome(rating, [other for other in decision.ratings if other is not rating])
                if sign > 0.0:
                    trust = max(explained, self._trust)
                    rating.log_odds = rater.update(rating.kind, rating.value, mean, source.affine(), trust)
                elif rating.log_odds is not None:
                    rater.downdate(rating.kind, rating.value, mean, rating.log_odds)
            if sign < 0.0:
                rating.log_odds = None

    def _decision(self, decision_id: str) -> DecisionRatings:
        return self._decisions.setdefault(decision_id, DecisionRatings())

    def _source(self, rating: Rating) -> SourceCalibration:
        key, cap = (rating.source, rating.kind), self._max_unverified_weight
        if key not in self._sources:
            self._sources[key] = SourceCalibration(rating.kind, max_unverified_weight=cap)
        return self._sources[key]

    def _rater(self, rating: Rating) -> RaterReliability | None:
        """The rater; None where the rating names none."""
        return self._raters.setdefault((rating.source, rating.rater), RaterReliability()) if rating.rater else None
