"""The bank: the same posterior as the whole linear model solved at once, whatever the order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.online.effects import TaskEffects
from agent.online.prior import SINCE, Prior, fit_prior, noise_variance

Array = np.ndarray[Any, np.dtype[np.float64]]

SPREAD = np.array([[0.1, 0.04, 0.0], [0.04, 0.1, 0.0], [0.0, 0.0, 0.05]])
LEVEL = np.diag([0.02, 0.03, 0.01])
TASKS = (5, 9)
EVER = 1e12


def prior(evidence: float = 3.0) -> Prior:
    return Prior(SPREAD, LEVEL, np.full((2, 3), evidence), np.full((2, 3), 0.5))


def readings(n: int = 60, seed: int = 0) -> list[tuple[dict[int, float], dict[int, float], float, float]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        a, b = (int(v) for v in rng.choice(3, 2, replace=False))
        coefficients = {a: 1.0, b: -1.0} if rng.random() < 0.3 else {a: 1.0}
        out.append(
            ({int(rng.choice(TASKS)): 1.0}, coefficients, float(rng.normal(0.1, 0.5)), float(rng.uniform(1.0, 5.0)))
        )
    return out


def learned(given: list[tuple[dict[int, float], dict[int, float], float, float]]) -> TaskEffects:
    bank = TaskEffects(prior(), TASKS, memory=EVER)
    for one in given:
        bank.add(*one)
    return bank


def at_once(given: list[tuple[dict[int, float], dict[int, float], float, float]]) -> tuple[Array, Array]:
    """Posterior mean and covariance of (mu, delta_5, delta_9) by one big linear model."""
    loading, own = prior().task(0)
    joint = np.zeros((9, 9))
    joint[:3, :3], joint[3:6, 3:6], joint[6:, 6:] = LEVEL, own, own
    information, weighted = np.linalg.inv(joint), np.zeros(9)
    for shares, coefficients, residual, precision in given:
        row = np.zeros(9)
        for model, coefficient in coefficients.items():
            row[:3] += coefficient * loading[model]
            row[3 + 3 * TASKS.index(next(iter(shares))) + model] += coefficient
        information += precision * np.outer(row, row)
        weighted += precision * residual * row
    covariance = np.linalg.inv(information)
    return covariance @ weighted, covariance


def test_it_is_the_exact_posterior_of_the_linear_model() -> None:
    given = readings()
    bank, (mean, covariance) = learned(given), at_once(given)
    for t, task in enumerate(TASKS):
        pick = np.zeros((3, 9))
        pick[:, :3], pick[:, 3 + 3 * t : 6 + 3 * t] = prior().task(0)[0], np.eye(3)
        posterior = bank.posterior({task: 1.0})
        assert posterior.mean == pytest.approx(pick @ mean) and np.allclose(
            posterior.covariance, pick @ covariance @ pick.T
        )
    level = bank.level()
    assert level.mean == pytest.approx(mean[:3]) and np.allclose(level.covariance, covariance[:3, :3])


def test_no_order_matters_and_what_is_taken_back_was_never_there() -> None:
    given = readings()
    one, other = learned(given), learned(given[::-1])
    assert one.posterior({5: 1.0}).mean == pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-9)
    extra = ({5: 0.7, 9: 0.3}, {0: 1.0}, -0.9, 3.0)
    weights = one.add(*extra)
    assert one.posterior({5: 1.0}).mean != pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-3)
    one.put({task: -weight for task, weight in weights.items()}, extra[1], extra[2])
    assert one.posterior({5: 1.0}).mean == pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-9)


def test_a_score_informs_on_alike_models_and_hardly_on_others() -> None:
    bank = learned([({5: 1.0}, {0: 1.0}, -0.5, 4.0)] * 10)
    here, elsewhere = bank.posterior({5: 1.0}).mean, bank.posterior({9: 1.0}).mean
    assert here[0] < -0.3 and here[0] < here[1] < -0.04 and abs(here[2]) < 0.01
    assert here[0] < elsewhere[0] < 0.0


def test_a_task_that_nobody_knew_starts_from_the_level_and_the_common_spread() -> None:
    bank = learned(readings())
    new = bank.posterior({77: 1.0})
    assert new.mean == pytest.approx(bank.level().mean)
    assert np.allclose(new.covariance, SPREAD + bank.level().covariance)


def test_evidence_closes_a_task_but_never_quite() -> None:
    (loose, few), (tied, many) = prior(1.0).task(0), prior(1e9).task(0)
    assert np.diag(tied) == pytest.approx(0.05 / np.sqrt(np.diag(LEVEL)), rel=1e-3)
    assert (np.diag(loose) > np.diag(tied)).all()
    assert (np.diag(many) < np.diag(few)).all() and np.diag(many) == pytest.approx([SINCE] * 3, abs=1e-6)


def test_the_old_weighs_less_than_the_new() -> None:
    bank = TaskEffects(prior(), TASKS, memory=50.0)
    for residual in [-0.5] * 200 + [0.5] * 200:
        bank.add({5: 1.0}, {0: 1.0}, residual, 4.0)
    assert bank.posterior({5: 1.0}).mean[0] > 0.3
    assert learned([({5: 1.0}, {0: 1.0}, r, 4.0) for r in [-0.5] * 200 + [0.5] * 200]).posterior({5: 1.0}).mean[0] < 0.1


def test_alike_models_are_found_and_a_model_without_scores_stays_open() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(120), 10)
    hard = rng.normal(0.0, 0.25, 120)
    truth = np.clip(0.5 + np.stack([hard, hard, rng.normal(0.0, 0.25, 120), hard], axis=1), 0.05, 0.95)
    scores = (rng.random((1200, 4)) < truth[labels]).astype(float)
    scores[:, 3] = np.nan
    prior = np.full_like(scores, np.nan)
    prior[:, 3] = 0.5
    found = fit_prior(labels, truth, scores, prior)
    alike, apart = found.spread[0, 1], found.spread[0, 2]
    assert alike > 0.6 * found.spread[0, 0] and abs(apart) < 0.3 * alike
    assert found.level[3, 3] > 0.008 and found.level[0, 0] < 0.006
    assert (np.linalg.eigvalsh(found.spread) > 0.0).all()


def test_noise_is_that_of_a_coin_and_more() -> None:
    assert noise_variance(np.array([0.0, 0.5, 1.0, 7.0])).tolist() == [0.1, 0.35, 0.1, 0.1]
