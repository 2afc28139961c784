"""The selections of feedback that training and the gate read: a revision stands where its first rating stood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agent.estimate import Estimator
from agent.feedback.ledger import Ledger, LedgerConfig
from agent.feedback.state import feedback_state, latest_ratings, since_last_drift
from agent.observations import Drift, Observation
from agent.online.drift import STALE_WEIGHT
from agent.snapshot import Snapshot
from agent.types import Encoded
from tests.agent import clusters

PROMPT = Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
DRIFTS = [Drift("m", 70, 50, -0.3, "scan"), Drift("n", 40, 30, -0.3, "scan")]


def rated(seq: int, decision: str, score: float = 0.9, rater: str = "", revises: float | None = None) -> Observation:
    return Observation(
        seq, decision, f"p-{decision}", "m", score, "user", rater, PROMPT, expected=0.9, revises=revises
    )  # fmt: skip


def test_the_latest_rating_of_each_rater_stands_where_the_first_stood() -> None:
    rows = [rated(1, "d"), rated(2, "d", rater="ann"), rated(3, "e"), rated(4, "d", 0.1, revises=0.9)]
    rows.append(rated(5, "d", 0.2, revises=0.1))
    assert latest_ratings(rows) == [replace(rows[4], seq=1), rows[1], rows[2]]


def test_a_revision_of_a_score_from_before_a_drift_counts_as_one_from_before() -> None:
    rows = [rated(1, "old"), rated(2, "revised"), rated(60, "new"), rated(80, "revised", 0.9, revises=0.8)]
    means = Ledger(LedgerConfig(first_weight=1.0)).mean_scores(latest_ratings(rows), DRIFTS)
    weight = {prompt: mean.weight for (prompt, _), mean in means.items()}
    assert weight["p-old"] == weight["p-revised"] == STALE_WEIGHT and weight["p-new"] == 1.0
    assert means["p-revised", "m"].value < 0.7


def test_rows_since_the_last_drift_revise_none_from_before_it() -> None:
    rows = [
        rated(40, "old"),
        rated(49, "old", rater="ann"),
        rated(50, "new"),
        rated(51, "old", 0.0, revises=0.9),
        rated(52, "old", 0.0, rater="bob"),
        rated(53, "new", 0.0, revises=0.9),
        rated(54, "not read", 0.0, revises=0.9),
    ]
    assert [row.seq for row in since_last_drift(rows, DRIFTS)] == [50, 52, 53]
    assert since_last_drift(rows, []) == rows


def test_revisions_and_comparisons_are_not_tested_for_drift() -> None:
    rows = [rated(seq, f"d{seq}") for seq in range(1, 201)]
    revisions = [rated(seq, f"d{seq - 200}", 0.0, revises=0.9) for seq in range(201, 401)]
    comparisons = [replace(rated(seq, f"c{seq}", 0.0), other="n", expected_other=0.1) for seq in range(401, 601)]
    alone, all_rows = feedback_state(None, rows), feedback_state(None, [*rows, *revisions, *comparisons])
    assert all_rows.drift_detectors.state() == alone.drift_detectors.state() != {}
    assert all_rows.drift_detectors.n_scores("m") == 200


def test_drift_is_tested_against_the_champions_estimates_of_its_own_encoders_rows() -> None:
    champion: Snapshot = clusters.snapshot()
    rows = [clusters.observed(seq, "code", "v/gamma", 0.2 + 0.6 * (seq % 2), prompt=seq) for seq in range(101, 131)]
    rows += [replace(clusters.observed(131, "code", "v/new", 0.5), expected=0.1)]
    rows += [replace(clusters.observed(132, "code", "v/gamma", 0.5), encoder="another", expected=0.1)]
    found = feedback_state(champion, rows).drift_detectors.state()
    estimator, ledger = Estimator(champion), Ledger.from_state(None, n_evaluated=champion.n_evaluated)
    scores = [ledger.learn_one(row).value for row in rows]
    column = champion.models.index("v/gamma")
    expected = [s - estimator.estimate(row.encoded).quality[0, column] for s, row in zip(scores[:30], rows)]
    tested = {model: [residual for _, residual, _ in found[model]] for model in found}
    np.testing.assert_allclose(tested["v/gamma"], expected, atol=1e-5)
    assert len(tested) == 1, "a model of few scores is not tested"
