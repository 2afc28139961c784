"""Feedback up to a position of the log: the ledger and drift detectors there, and the rows that training and gate read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.estimate import Estimator
from agent.examples import Examples
from agent.feedback.calibration import EvaluatedScore
from agent.feedback.checks import defect
from agent.feedback.ledger import Ledger
from agent.observations import CalibratedScore, Drift, Observation
from agent.online.drift import DriftDetectors
from agent.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class FeedbackState:
    """What was learned from the log up to a position: ``ledger``, and the ``drift_detectors`` of every model."""

    ledger: Ledger
    drift_detectors: DriftDetectors

    def state(self) -> dict[str, Any]:
        """What a snapshot carries on, as JSON."""
        return {"ledger": self.ledger.state(), "drift_detectors": self.drift_detectors.state()}


def ledger_after(
    champion: Snapshot | None, rows: Iterable[Observation], evaluated_score: EvaluatedScore | None = None
) -> Ledger:
    """The champion's ledger (a new one without a champion) after ``rows``, which follow its position."""
    if champion is None:
        ledger = Ledger(evaluated_score=evaluated_score, n_evaluated=0)
    else:
        ledger = Ledger.from_state(
            champion.meta.get("ledger"), evaluated_score=evaluated_score,
            n_evaluated=champion.n_evaluated, optimism=champion.optimism,
        )  # fmt: skip
    for row in rows:
        _learned(ledger, row)
    return ledger


def _learned(ledger: Ledger, row: Observation) -> CalibratedScore | None:
    """What the ledger makes of a row; None where it cannot be learned, which a router sets aside."""
    if defect(row) is not None:
        return None
    try:
        return ledger.learn_one(row)
    except Exception:  # of any kind: a row must not keep the next ones from being learned
        return None


def feedback_state(
    champion: Snapshot | None, rows: Iterable[Observation], evaluated_score: EvaluatedScore | None = None
) -> FeedbackState:
    """The ledger of `ledger_after`, and the drift detectors.

    A score is tested for drift against the champion's estimate; without a champion, against what the decision expected.
    """
    ledger = ledger_after(champion, (), evaluated_score)
    drift_detectors = (
        DriftDetectors({})
        if champion is None
        else DriftDetectors(champion.scores_by_model, state=champion.meta.get("drift_detectors"))
    )
    rows = [row for row in rows if defect(row) is None]  # one with a defect is set aside by a router too
    tested = [row for row in rows if row.other is None and row.revises is None]
    predicted = {row.seq: row.expected for row in tested} if champion is None else _predicted(champion, tested)
    for row in rows:
        score = _learned(ledger, row)
        if score is not None and row.seq in predicted:
            drift_detectors.learn_one(row.model, row.seq, score.value, score.weight, predicted[row.seq])
    return FeedbackState(ledger, drift_detectors)


def _predicted(snapshot: Snapshot, rows: Sequence[Observation]) -> dict[int, float]:
    """Position -> the snapshot's estimate of the row's model; without rows of another encoder."""
    estimator = Estimator(snapshot)
    read = [
        row
        for row in rows
        if row.encoder in ("", snapshot.encoder) and not defect(row, estimator.dimension, estimator.n_features)
    ]
    if not read:
        return {}
    quality = estimator.estimate_batch(
        np.array([row.encoded.embedding for row in read], np.float32),
        np.array([row.encoded.features for row in read], np.float32),
    ).quality
    return dict(zip((row.seq for row in read), estimator.of_models(quality, [row.model for row in read]).tolist()))


def since_last_drift(rows: Iterable[Observation], drifts: Sequence[Drift]) -> list[Observation]:
    """The rows since the last change of any model, without revisions of earlier ones: those are of another pool."""
    start = max((drift.since for drift in drifts), default=0)
    rows, first = list(rows), dict[tuple[str, str, str, str | None], int]()
    for o in rows:  # the original of a revision that is seen first is not among the rows
        first.setdefault((o.decision_id, o.source, o.rater, o.other), o.seq if o.revises is None else 0)
    return [o for o in rows if first[o.decision_id, o.source, o.rater, o.other] >= start]


def latest_ratings(rows: Iterable[Observation]) -> list[Observation]:
    """The last rating of each (decision, source, rater), at the position of its first, in the log's order.

    So a revision of a score from before a drift still counts as one from before it.
    """
    latest: dict[tuple[str, str, str], Observation] = {}
    for o in rows:
        key = (o.decision_id, o.source, o.rater)
        latest[key] = replace(o, seq=latest[key].seq) if key in latest else o
    return list(latest.values())


def evaluated_scores(evaluations: Examples) -> EvaluatedScore:
    """Looks up what a model scored on an evaluated prompt."""
    row = {name: i for i, name in enumerate(evaluations.ids)}
    column = {name: j for j, name in enumerate(evaluations.models)}

    def evaluated_score(prompt_id: str, model: str) -> float | None:
        i, j = row.get(prompt_id), column.get(model)
        score = np.nan if i is None or j is None else float(evaluations.scores[i, j])
        return None if np.isnan(score) else score

    return evaluated_score
