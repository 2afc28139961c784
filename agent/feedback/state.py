"""What feedback is worth at a position of the log: the champion's ledger and watches, and all that was said since."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.examples import Examples
from agent.feedback.ledger import Ledger, Truth
from agent.online.drift import DriftDetectors, innovation
from agent.snapshot import Snapshot
from agent.types import Drift, Observation


@dataclass(frozen=True, slots=True)
class FeedbackState:
    """What was made of the log up to a position: the ``ledger``, and the ``drift_detectors`` over every model."""

    ledger: Ledger
    drift_detectors: DriftDetectors

    def state(self) -> dict[str, Any]:
        """What a snapshot carries on."""
        return {"ledger": self.ledger.state(), "drift_detectors": self.drift_detectors.state()}


def learn_one(champion: Snapshot | None, rows: Iterable[Observation], truth: Truth | None = None) -> FeedbackState:
    """The champion's ledger and watches (new ones where there is none) after ``rows``, which follow its position."""
    state, n_evaluated = (None, 0) if champion is None else (champion.meta.get("ledger"), champion.evaluated)
    ledger = Ledger.from_state(state, truth=truth, n_evaluated=n_evaluated)
    drift_detectors = (
        DriftDetectors({})
        if champion is None
        else DriftDetectors(champion.scores_by_model, state=champion.meta.get("drift_detectors"))
    )
    for row in rows:
        calibrated_score = ledger.learn_one(row)
        if row.other is None and row.revises is None:
            drift_detectors.learn_one(
                row.model, row.seq, innovation(calibrated_score.value, row.expected, calibrated_score.weight)
            )
    return FeedbackState(ledger, drift_detectors)


def fresh(rows: Iterable[Observation], drifts: Sequence[Drift]) -> list[Observation]:
    """The rows since the last change of a model: earlier ones tell of a pool that is no more, whoever answered."""
    start = max((drift.since for drift in drifts), default=0)
    return [row for row in rows if row.seq >= start]


def latest(rows: Iterable[Observation]) -> list[Observation]:
    """The last word of each (decision, source, rater), in the log's order."""
    return sorted({(o.decision_id, o.source, o.rater): o for o in rows}.values(), key=lambda o: o.seq)


def evaluated(evaluations: Examples) -> Truth:
    """Looks up what a model scored on an evaluated prompt."""
    row = {name: i for i, name in enumerate(evaluations.ids)}
    column = {name: j for j, name in enumerate(evaluations.models)}

    def truth(prompt_id: str, model: str) -> float | None:
        i, j = row.get(prompt_id), column.get(model)
        score = np.nan if i is None or j is None else float(evaluations.scores[i, j])
        return None if np.isnan(score) else score

    return truth
