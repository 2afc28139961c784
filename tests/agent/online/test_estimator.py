"""The online estimator: as much as the evidence says, where it says it; revisions, newcomers, drift."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.online.drift import Innovation
from agent.online.estimator import OnlineConfig, OnlineEstimator, ResidualObservation
from agent.online.prior import Prior

MODELS = ("a", "b")


def estimator(evidence: float = 20.0, **config: Any) -> OnlineEstimator:
    prior = Prior(0.05 * np.eye(2) + 0.02, 0.003 * np.eye(2), np.full((20, 2), evidence), np.full((20, 2), 0.6))
    return OnlineEstimator(MODELS, range(20), prior, OnlineConfig(**config))


def observation(
    seq: int, residual: float, model: str = "a", task: int = 0, key: Hashable = None, **fields: Any
) -> ResidualObservation:
    return ResidualObservation(seq, seq if key is None else key, {model: 1.0}, {task: 1.0}, residual, 0.3, **fields)


def learned(n: int, residual: float, evidence: float = 20.0, **fields: Any) -> OnlineEstimator:
    online = estimator(evidence)
    for seq in range(n):
        online.learn_one(observation(seq, residual, **fields))
    return online


def delta(online: OnlineEstimator, task: int = 0, model: str = "a") -> float:
    return float(online.predict_one((model,), {task: 1.0}).mean[0])


def test_nothing_learned_corrects_nothing() -> None:
    posterior = estimator().predict_one(MODELS, {0: 1.0})
    assert posterior.mean.tolist() == [0.0, 0.0] and (np.diag(posterior.covariance) > 0.0).all()


def test_many_scores_are_believed_and_few_only_in_part() -> None:
    deltas = [delta(learned(n, -0.5)) for n in (1, 5, 20, 1000)]
    assert deltas == sorted(deltas, reverse=True) and -0.1 < deltas[0] < 0.0
    assert deltas[-1] == pytest.approx(-0.5, abs=0.03)


def test_other_tasks_hear_a_little() -> None:
    online = learned(20, -0.8)
    assert delta(online, 0) < -0.3 and -0.15 < delta(online, 1) < 0.0


def test_a_fall_on_all_tasks_is_believed_of_a_task_that_was_not_seen() -> None:
    everywhere = estimator()
    for seq in range(400):
        everywhere.learn_one(observation(seq, -0.4, task=seq % 19))
    assert delta(everywhere, 19) < 2 * delta(learned(400, -0.4), 19)


def test_the_less_the_snapshot_knew_the_sooner_scores_are_believed() -> None:
    assert delta(learned(5, -0.5, evidence=1.0)) < delta(learned(5, -0.5, evidence=500.0)) < 0.0


def test_variance_falls_with_scores() -> None:
    variances = [learned(n, 0.0).predict_one(MODELS, {0: 1.0}).covariance[0, 0] for n in (1, 10, 100, 1000)]
    assert variances == sorted(variances, reverse=True) and 0.0 < variances[-1] < 0.2 * variances[0]


def test_a_revision_replaces_what_was_said() -> None:
    revised, straight = estimator(), estimator()
    for online, first in ((revised, -0.9), (straight, 0.4)):
        online.learn_one(observation(1, first, key="k"))
    revised.learn_one(observation(2, 0.4, key="k"))
    assert delta(revised) == pytest.approx(delta(straight), rel=1e-3)
    assert revised.scores_of("a") == straight.scores_of("a")


def test_a_comparison_parts_two_models() -> None:
    online = estimator()
    for seq in range(60):
        online.learn_one(ResidualObservation(seq, seq, {"a": 1.0, "b": -1.0}, {0: 1.0}, 0.6, 0.6))
    assert delta(online, model="a") > 0.1 and delta(online, model="b") < -0.1


def test_a_newcomer_is_learned_from_its_first_score_and_the_others_keep_theirs() -> None:
    online = learned(10, -0.5)
    before = delta(online)
    assert online.predict_one(("new",), {0: 1.0}).covariance[0, 0] > 0.15
    for seq in range(100, 130):
        online.learn_one(observation(seq, 0.3, model="new"))
    assert delta(online, model="new") == pytest.approx(0.3, abs=0.08)
    assert delta(online) == pytest.approx(before, abs=0.12)


def test_what_is_asked_changes_nothing() -> None:
    asked, quiet = learned(10, -0.5), learned(10, -0.5)
    asked.predict_one(("new", "a"), {3: 0.5, 4: 0.5})
    asked.level(("new", "b"))
    for seq in range(100, 110):
        asked.learn_one(observation(seq, 0.3, model="new"))
        quiet.learn_one(observation(seq, 0.3, model="new"))
        asked.predict_one(MODELS, {0: 1.0})
    assert asked.digest() == quiet.digest()
    assert np.array_equal(asked.predict_one(MODELS, {0: 1.0}).mean, quiet.predict_one(MODELS, {0: 1.0}).mean)


def test_the_digest_tells_any_difference() -> None:
    base = learned(10, -0.5)
    other = learned(9, -0.5)
    other.learn_one(observation(9, -0.5000001))
    assert base.digest() != other.digest() and base.digest() == learned(10, -0.5).digest()


def test_after_a_drift_the_past_is_dropped_and_the_new_level_is_found_on_every_task() -> None:
    rng = np.random.default_rng(0)
    online, seq, found = estimator(), 0, None
    while found is None and seq < 900:
        fall = -0.4 if seq >= 600 else 0.0
        score = float(rng.normal(fall, 0.3))
        found = online.learn_one(
            observation(seq, score, task=seq % 19, innovation=Innovation(score - delta(online, seq % 19), 0.15))
        )
        seq += 1
    assert found is not None and found.model == "a" and 560 < found.since <= found.position == seq - 1 < 700
    assert online.drifts() == (found,)
    for later in range(seq, seq + 30):
        online.learn_one(observation(later, float(rng.normal(-0.4, 0.3)), task=later % 19))
    assert delta(online, 19) < -0.15 and abs(delta(online, 19, "b")) < 0.05
    same = replace(found)
    assert same == found


def test_the_young_do_not_alarm() -> None:
    online = estimator(evidence=0.0)
    assert not [
        d
        for s in range(90)
        if (d := online.learn_one(observation(s, -0.9 * (s > 40), innovation=Innovation(-0.9 * (s > 40), 0.15))))
    ]


def test_only_the_latest_scores_can_be_revised() -> None:
    online = estimator(held=5)
    for seq in range(10):
        online.learn_one(observation(seq, -0.5, key=seq))
    before = delta(online)
    online.learn_one(observation(10, 0.5, key=9))
    assert delta(online) > before
