"""The online estimator: moves as far as the scores say, on the tasks that they are of; revisions, new models, drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.observations import CalibratedScore, Drift, Observation
from agent.online.estimator import OnlineConfig, OnlineEstimator
from agent.online.prior import Prior, noise_variance
from agent.types import Encoded

MODELS = ("a", "b")
PREDICTED = 0.5
WEIGHT = float(noise_variance(np.array(PREDICTED))) / 0.3
PROMPT = Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)


def estimator(n_scores: float = 20.0, **config: Any) -> OnlineEstimator:
    prior = Prior(0.05 * np.eye(2) + 0.02, 0.003 * np.eye(2), np.full((20, 2), n_scores), np.full((20, 2), 0.6))
    return OnlineEstimator(MODELS, range(20), prior, OnlineConfig(**config))


def learn(
    online: OnlineEstimator,
    seq: int,
    residual: float,
    model: str = "a",
    task: int = 0,
    decision: str | None = None,
    revises: float | None = None,
    expected: float | None = None,
    other: str | None = None,
    weight: float = WEIGHT,
    neighbourhood: int | None = None,
) -> Drift | None:
    """A score this far from the snapshot's prediction, of noise variance 0.3; by default as the decision expected it."""
    predicted = {name: PREDICTED for name in (model, other) if name is not None}
    value = residual + (PREDICTED if other is None else 0.0)
    row = Observation(
        seq, decision or f"d{seq}", "p", model, 0.5, "user", "ann", PROMPT,
        expected=value if expected is None else expected, revises=revises, other=other,
    )  # fmt: skip
    return online.learn_one(row, CalibratedScore(value, weight), predicted, {task: 1.0}, neighbourhood)


def learned(n: int, residual: float, n_scores: float = 20.0) -> OnlineEstimator:
    online = estimator(n_scores)
    for seq in range(n):
        learn(online, seq, residual)
    return online


def correction(online: OnlineEstimator, task: int = 0, model: str = "a") -> float:
    return float(online.predict_one((model,), {task: 1.0}).mean[0])


def drifted(online: OnlineEstimator, revise: str = "", revise_at: int = -1) -> Drift:
    """Feed 600 scores (``old-0``, ``old-1``, ...) as predicted, then scores .4 lower until a drift of "a" is found.

    One of them may be revised to what it was, at a position between two others.
    """
    rng = np.random.default_rng(0)
    for seq in range(900):
        if seq == revise_at:
            learn(online, seq, 0.0, task=int(revise[4:]) % 19, decision=revise, revises=0.0)
        residual = float(rng.normal(-0.4 if seq >= 600 else 0.0, 0.3))
        if drift := learn(online, seq, residual, task=seq % 19, decision=f"old-{seq}"):
            return drift
    raise AssertionError("no drift was found")


def test_nothing_learned_corrects_nothing() -> None:
    posterior = estimator().predict_one(MODELS, {0: 1.0})
    assert posterior.mean.tolist() == [0.0, 0.0] and (np.diag(posterior.covariance) > 0.0).all()


def test_many_scores_move_all_the_way_and_few_only_in_part() -> None:
    corrections = [correction(learned(n, -0.5)) for n in (1, 5, 20, 1000)]
    assert corrections == sorted(corrections, reverse=True) and -0.1 < corrections[0] < 0.0
    assert corrections[-1] == pytest.approx(-0.5, abs=0.03)


def test_other_tasks_move_a_little() -> None:
    online = learned(20, -0.8)
    assert correction(online, 0) < -0.3 and -0.15 < correction(online, 1) < 0.0


def test_a_fall_on_all_tasks_moves_a_task_without_scores() -> None:
    everywhere = estimator()
    for seq in range(400):
        learn(everywhere, seq, -0.4, task=seq % 19)
    assert correction(everywhere, 19) < 2 * correction(learned(400, -0.4), 19)


def test_the_fewer_scores_the_snapshot_had_the_faster_it_is_corrected() -> None:
    assert correction(learned(5, -0.5, n_scores=1.0)) < correction(learned(5, -0.5, n_scores=500.0)) < 0.0


def test_variance_falls_with_scores() -> None:
    variances = [learned(n, 0.0).predict_one(MODELS, {0: 1.0}).covariance[0, 0] for n in (1, 10, 100, 1000)]
    assert variances == sorted(variances, reverse=True) and 0.0 < variances[-1] < 0.2 * variances[0]


def test_a_score_of_hardly_any_weight_moves_hardly_anything() -> None:
    online = estimator()
    for seq in range(50):
        row = Observation(seq, f"d{seq}", "p", "a", 0.0, "user", "ann", PROMPT, expected=0.5)
        online.learn_one(row, CalibratedScore(-0.5, 0.0), {"a": PREDICTED}, {0: 1.0})
    assert -1e-3 < correction(online) < 0.0


def test_a_revision_replaces_the_score() -> None:
    revised, straight = estimator(), estimator()
    for online, first in ((revised, -0.9), (straight, 0.4)):
        learn(online, 1, first, decision="d")
    learn(revised, 2, 0.4, decision="d", revises=0.0)
    assert correction(revised) == pytest.approx(correction(straight), rel=1e-3)
    assert revised.model_n_scores("a") == straight.model_n_scores("a")
    assert revised.task_n_scores({0: 1.0}) == straight.task_n_scores({0: 1.0}) == 1.0


def test_a_comparison_parts_two_models() -> None:
    online = estimator()
    for seq in range(60):
        learn(online, seq, 0.6, other="b")
    assert correction(online, model="a") > 0.1 and correction(online, model="b") < -0.1
    assert online.model_n_scores("a") == 20 * 20.0  # it is no score


def test_a_new_model_is_learned_from_its_first_score_and_the_others_keep_theirs() -> None:
    online = learned(10, -0.5)
    before = correction(online)
    assert online.predict_one(("new",), {0: 1.0}).covariance[0, 0] > 0.15
    for seq in range(100, 130):
        learn(online, seq, 0.3, model="new")
    assert correction(online, model="new") == pytest.approx(0.3, abs=0.08)
    assert correction(online) == pytest.approx(before, abs=0.12)


def test_predicting_changes_nothing() -> None:
    asked, quiet = learned(10, -0.5), learned(10, -0.5)
    asked.predict_one(("new", "a"), {3: 0.5, 4: 0.5})
    asked.overall(("new", "b"))
    for seq in range(100, 110):
        learn(asked, seq, 0.3, model="new")
        learn(quiet, seq, 0.3, model="new")
        asked.predict_one(MODELS, {0: 1.0})
    assert asked.digest() == quiet.digest()
    assert np.array_equal(asked.predict_one(MODELS, {0: 1.0}).mean, quiet.predict_one(MODELS, {0: 1.0}).mean)


def test_the_digest_shows_any_difference() -> None:
    base = learned(10, -0.5)
    other = learned(9, -0.5)
    learn(other, 9, -0.5000001)
    assert base.digest() != other.digest() and base.digest() == learned(10, -0.5).digest()


def test_after_a_drift_the_past_is_dropped_and_the_new_level_is_found_on_every_task() -> None:
    online = estimator()
    found = drifted(online)
    assert found.model == "a" and 560 < found.since <= found.position < 700 and online.drifts() == (found,)
    assert sum(online.task_n_scores({task: 1.0}) for task in range(19)) == found.position - found.since + 1
    rng = np.random.default_rng(1)
    for seq in range(1000, 1030):
        learn(online, seq, float(rng.normal(-0.4, 0.3)), task=seq % 19)
    assert correction(online, 19) < -0.15 and abs(correction(online, 19, "b")) < 0.05


def test_a_model_that_is_off_the_prediction_from_the_start_has_not_changed() -> None:
    online, rng = estimator(), np.random.default_rng(0)
    assert not any(learn(online, seq, float(rng.normal(-0.4, 0.3)), expected=PREDICTED) for seq in range(1000))


def test_a_change_is_told_though_the_correction_follows_it() -> None:
    """Scores against what each decision expected lose the change within a few scores of one task."""
    online, rng, found = estimator(n_scores=0.5), np.random.default_rng(0), None
    for seq in range(800):
        expected = PREDICTED + correction(online)
        found = found or learn(online, seq, float(rng.normal(-0.2 * (seq >= 600), 0.4)), expected=expected)
    assert found is not None and 600 < found.position < 800 and abs(found.since - 600) < 30


def test_a_model_of_few_scores_does_not_drift() -> None:
    online = estimator(n_scores=0.0)
    assert not any(learn(online, seq, -0.4 * (seq > 40)) for seq in range(90))
    assert any(learn(online, seq, -0.4 * (seq > 190)) for seq in range(90, 290))  # now it has enough


# --- what was revised counts once


def test_a_revision_of_a_score_that_is_no_longer_held_is_no_second_one() -> None:
    online = estimator(held=5)
    for seq in range(10):
        learn(online, seq, -0.5)
    before, kept = online.digest(), correction(online)
    for seq in range(10, 20):
        assert learn(online, seq, 0.5, decision="d4", revises=0.0) is None
    assert online.digest() == before
    learn(online, 20, 0.5, decision="d5", revises=0.0)
    assert correction(online) > kept + 0.01


def test_sums_are_kept_of_neighbourhoods_and_models_whose_scores_can_be_revised() -> None:
    online = estimator(held=30)
    for seq in range(300):
        learn(online, seq, -0.5, model="ab"[seq % 2], neighbourhood=seq // 3)
    keys = online._effects.arrays()[4].tolist()
    assert keys == [[near, 0, model] for near in range(90, 100) for model in (near % 2, 1 - near % 2)]


def test_a_revision_of_a_score_that_the_snapshot_was_trained_on_is_no_second_one() -> None:
    online = learned(10, -0.5)
    before = online.digest()
    learn(online, 10, 0.5, decision="before", revises=0.0)
    learn(online, 11, 0.5, decision="before", model="new", revises=0.0)
    assert online.digest() == before


def test_a_revision_of_a_score_from_before_a_drift_is_no_new_one() -> None:
    online = estimator()
    found = drifted(online)
    before, since = online.digest(), correction(online, found.since % 19)
    for n in range(100):
        learn(online, 1000 + n, 0.5, task=n % 19, decision=f"old-{n}", revises=0.0)
    assert online.digest() == before
    learn(online, 1100, 0.5, task=found.since % 19, decision=f"old-{found.since}", revises=0.0)
    assert correction(online, found.since % 19) > since + 0.01


def test_a_score_from_before_a_drift_is_dropped_though_it_was_revised_after_the_change() -> None:
    revised, straight = estimator(), estimator()
    assert drifted(revised, revise="old-100", revise_at=610).since == drifted(straight).since > 560
    for task in range(19):
        assert revised.task_n_scores({task: 1.0}) == straight.task_n_scores({task: 1.0})
        assert correction(revised, task) == pytest.approx(correction(straight, task), abs=1e-9)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_revision_weighs_no_more_than_the_score_that_it_replaces(rebuilt: bool) -> None:
    """The ledger may no longer know what the first one weighed."""
    low, high, mixed = estimator(), estimator(), estimator()
    for online, weight in ((low, 0.1), (high, WEIGHT), (mixed, 0.1)):
        learn(online, 1, 0.5, decision="d", weight=weight)
    learn(mixed, 2, 0.5, decision="d", revises=0.0, weight=WEIGHT)
    learn(high, 2, 0.5, decision="d", revises=0.0, weight=0.1)
    if rebuilt:
        for online in (low, high, mixed):
            learn(online, 3, 0.0, model="new")
    assert correction(mixed) == pytest.approx(correction(low), rel=1e-9)
    assert correction(high) == pytest.approx(correction(low), rel=1e-9)


def pool(models: int = 6, tasks: int = 20) -> Prior:
    """Half of the models are good on the even tasks, half on the odd ones."""
    good = np.arange(tasks)[:, None] % 2 == np.arange(models)[None, :] % 2
    means = np.where(good, 0.7, 0.3)
    common = 0.04 * np.eye(models) + 0.02
    return Prior(common, 1e-3 * np.eye(models), np.full((tasks, models), 50.0), means, interaction=0.04)


def test_a_few_scores_of_a_new_model_tell_of_tasks_that_it_has_none_on() -> None:
    online = OnlineEstimator(tuple("abcdef"), range(20), pool())
    for seq, task in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        score = 0.9 if task % 2 == 0 else 0.1
        row = Observation(seq, f"d{seq}", "p", "new", score, "user", "", PROMPT)
        online.learn_one(row, CalibratedScore(score, 1.0), {"new": 0.5}, {task: 1.0})
    even, odd = (online.predict_one(("new",), {task: 1.0}).mean[0] for task in (18, 19))
    assert even > 0.08 and odd < -0.08
    assert online.predict_one(("new", "a"), {18: 1.0}).mean[1] == pytest.approx(0.0, abs=0.03)
