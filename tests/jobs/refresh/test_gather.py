"""What a refresh trains on: examples of several origins joined, and the ledger that calibrates feedback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agent.examples import Examples, join
from agent.feedback.state import evaluated_scores, ledger_after
from agent.observations import Observation
from agent.snapshot import FORMAT, Snapshot
from tests.jobs.made import WordEncoder


def made(ids: str, models: str, scores: list[list[float]], prior: list[list[float]] | None = None) -> Examples:
    n = len(ids)
    return Examples(
        ids=tuple(ids),
        embeddings=np.eye(n, 4, dtype=np.float32),
        features=np.ones((n, 2), np.float32),
        scores=np.array(scores, np.float64).reshape(n, len(models)),
        models=tuple(models),
        prior=None if prior is None else np.array(prior, np.float64),
        texts=tuple(i.upper() for i in ids),
    )


def test_join_unites_models_and_prompts_and_averages_what_both_know() -> None:
    nan = float("nan")
    joined = join([made("pq", "ab", [[1.0, nan], [0.0, 0.5]]), made("qr", "bc", [[1.0, 0.25], [nan, 0.75]])])
    assert (joined.ids, joined.models, joined.texts) == (("p", "q", "r"), ("a", "b", "c"), ("P", "Q", "R"))
    assert np.array_equal(joined.scores, [[1, nan, nan], [0, 0.75, 0.25], [nan, nan, 0.75]], equal_nan=True)
    assert joined.costs is None
    assert joined.prior is None


def test_join_keeps_priors_apart_from_scores() -> None:
    nan = float("nan")
    joined = join([made("p", "ab", [[nan, nan]], [[0.9, 0.1]]), made("p", "b", [[1.0]])])
    assert joined.prior is not None
    assert joined.prior.tolist() == [[0.9, 0.1]]
    assert np.array_equal(joined.scores, [[nan, 1.0]], equal_nan=True)


def test_join_weighs_scores_by_their_score_weights() -> None:
    nan = float("nan")
    evaluations = made("pq", "ab", [[1.0, nan], [0.0, 0.5]])
    feedback = replace(made("qr", "b", [[1.0], [0.25]]), weights=np.array([[0.25], [0.5]]))
    joined = join([evaluations, feedback])
    assert np.array_equal(joined.scores, [[1, nan], [0, 0.6], [nan, 0.25]], equal_nan=True)
    assert joined.weights is not None and joined.weights.tolist() == [[1, 0], [1, 1], [0, 0.5]]
    assert join([evaluations]).weights is None


def test_the_ledger_continues_the_champions_and_is_calibrated_by_evaluations() -> None:
    encoded = WordEncoder().encode([()])[0]
    rows = [
        Observation(seq, f"d{seq}", "pq"[seq % 2], "a", 0.5 * (seq % 2), "judge", "", encoded, expected=0.5)
        for seq in range(1, 201)
    ]
    scores = evaluated_scores(made("pq", "ab", [[0.0, float("nan")], [1.0, 0.5]]))
    assert (scores("q", "a"), scores("p", "b"), scores("r", "a"), scores("p", "z")) == (1.0, None, None, None)
    [informed], [guessing] = ledger_after(None, rows, scores).sources(), ledger_after(None, rows).sources()
    assert informed.slope < 0.6 < guessing.slope
    half = ledger_after(None, rows[:100], scores)
    trained = {"task_n_scores": np.zeros((1, 1))}
    champion = Snapshot(1, 100, {"format": FORMAT, "models": ["a"], "ledger": half.state()}, trained, (), ())
    assert ledger_after(champion, rows[100:], scores).state() == ledger_after(None, rows, scores).state()
