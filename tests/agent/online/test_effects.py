"""Task effects: the same posterior as one big linear model solved at once, in whatever order scores come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.online.effects import TaskEffects
from agent.online.neighbourhoods import neighbourhood_variance
from agent.online.prior import AGEING_VARIANCE, Prior, fit_prior, noise_variance

Array = np.ndarray[Any, np.dtype[np.float64]]

COVARIANCE = np.array([[0.1, 0.04, 0.0], [0.04, 0.1, 0.0], [0.0, 0.0, 0.05]])
OVERALL = np.diag([0.02, 0.03, 0.01])
TASKS = (5, 9)
EVER = 1e12

Data = list[tuple[dict[int, float], dict[int, float], float, float]]
"""Arguments of `TaskEffects.add`."""


def prior(n_scores: float = 3.0) -> Prior:
    return Prior(COVARIANCE, OVERALL, np.full((2, 3), n_scores), np.full((2, 3), 0.5))


def scores(n: int = 60, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        a, b = (int(v) for v in rng.choice(3, 2, replace=False))
        coefficients = {a: 1.0, b: -1.0} if rng.random() < 0.3 else {a: 1.0}
        out.append(
            ({int(rng.choice(TASKS)): 1.0}, coefficients, float(rng.normal(0.1, 0.5)), float(rng.uniform(1.0, 5.0)))
        )
    return out


def learned(data: Data) -> TaskEffects:
    effects = TaskEffects(prior(), TASKS, memory=EVER)
    for one in data:
        effects.add(*one)
    return effects


def at_once(data: Data) -> tuple[Array, Array]:
    """Posterior mean and covariance of (mu, delta_5, delta_9) by one big linear model."""
    loading, own = prior().task(0)
    joint = np.zeros((9, 9))
    joint[:3, :3], joint[3:6, 3:6], joint[6:, 6:] = OVERALL, own, own
    information, weighted = np.linalg.inv(joint), np.zeros(9)
    for tasks, coefficients, residual, precision in data:
        row = np.zeros(9)
        for model, coefficient in coefficients.items():
            row[:3] += coefficient * loading[model]
            row[3 + 3 * TASKS.index(next(iter(tasks))) + model] += coefficient
        information += precision * np.outer(row, row)
        weighted += precision * residual * row
    covariance = np.linalg.inv(information)
    return covariance @ weighted, covariance


def test_it_is_the_exact_posterior_of_the_linear_model() -> None:
    data = scores()
    effects, (mean, covariance) = learned(data), at_once(data)
    for t, task in enumerate(TASKS):
        pick = np.zeros((3, 9))
        pick[:, :3], pick[:, 3 + 3 * t : 6 + 3 * t] = prior().task(0)[0], np.eye(3)
        posterior = effects.posterior({task: 1.0})
        assert posterior.mean == pytest.approx(pick @ mean) and np.allclose(
            posterior.covariance, pick @ covariance @ pick.T
        )
    overall = effects.overall()
    assert overall.mean == pytest.approx(mean[:3]) and np.allclose(overall.covariance, covariance[:3, :3])


def test_a_neighbourhoods_own_effect_is_integrated_out_of_what_its_scores_tell_of_the_task() -> None:
    """As in a linear model with an effect of each neighbourhood on each model, of the variance that its scores give it."""
    rng = np.random.default_rng(3)
    rows = [(int(rng.integers(3)), int(rng.integers(3)), float(rng.normal(-0.3, 0.5)), 3.0) for _ in range(40)]
    effects = TaskEffects(prior(), TASKS, memory=EVER)
    for near, model, residual, precision in rows:
        effects.add({5: 1.0}, {model: 1.0}, residual, precision, near)
    loading, own = prior().task(0)
    theta = own + loading @ OVERALL @ loading.T
    joint = np.zeros((12, 12))  # theta, and gamma of three neighbourhoods on three models
    joint[:3, :3] = theta
    for near in range(3):
        for model in range(3):
            of = [(r * p, p) for n, m, r, p in rows if (n, m) == (near, model)]
            weighted, precision = np.sum(of, axis=0)
            joint[3 + 3 * near + model, 3 + 3 * near + model] = neighbourhood_variance(precision, weighted)
    information, vector = np.linalg.inv(joint), np.zeros(12)
    for near, model, residual, precision in rows:
        row = np.zeros(12)
        row[[model, 3 + 3 * near + model]] = 1.0
        information += precision * np.outer(row, row)
        vector += precision * residual * row
    mean = np.linalg.solve(information, vector)
    assert effects.posterior({5: 1.0}).mean == pytest.approx(mean[:3])
    for near in range(3):
        assert effects.posterior({5: 1.0}, near).mean == pytest.approx(mean[:3] + mean[3 + 3 * near : 6 + 3 * near])
    assert effects.posterior({5: 1.0}, 77).mean == pytest.approx(mean[:3]), "one without scores is as its task"


def test_a_subtracted_score_leaves_no_trace_in_its_neighbourhood() -> None:
    effects, without = (TaskEffects(prior(), TASKS, memory=EVER) for _ in range(2))
    for near, residual in ((1, -0.5), (1, -0.6), (2, 0.4)):
        for each in (effects, without):
            each.add({5: 1.0}, {0: 1.0}, residual, 3.0, near)
    extra = ({5: 1.0}, {0: 1.0}, -0.9, 3.0, 1)
    weights = effects.add(*extra)
    assert effects.posterior({5: 1.0}, 1).mean[0] < without.posterior({5: 1.0}, 1).mean[0] - 0.01
    effects.add_weighted({task: -weight for task, weight in weights.items()}, extra[1], extra[2], 1)
    for place in (1, 2, None):
        assert effects.posterior({5: 1.0}, place).mean == pytest.approx(
            without.posterior({5: 1.0}, place).mean, abs=1e-9
        )


def test_a_neighbourhood_of_which_no_score_can_be_subtracted_is_forgotten_and_its_task_keeps_what_they_say() -> None:
    effects = TaskEffects(prior(), TASKS, memory=EVER)
    for near in (1, 1, 2):
        effects.add({5: 0.7, 9: 0.3}, {0: 1.0}, -0.8, 30.0, near)
    task, own = effects.posterior({5: 1.0}).mean, effects.posterior({5: 1.0}, 1).mean
    assert own[0] < task[0] - 0.1
    effects.release(1)
    assert effects.posterior({5: 1.0}, 1).mean == pytest.approx(own), "one score may still be revised"
    effects.release(1)
    assert effects.posterior({5: 1.0}, 1).mean == pytest.approx(task)
    assert effects.posterior({5: 1.0}).mean == pytest.approx(task)
    assert effects.posterior({5: 1.0}, 2).mean[0] < task[0] - 0.1


def test_a_neighbourhood_has_effects_of_its_own_in_each_task() -> None:
    effects = TaskEffects(prior(), TASKS, memory=EVER)
    for _ in range(2):
        effects.add({5: 1.0}, {0: 1.0}, -0.8, 30.0, 1)
    assert effects.posterior({5: 1.0}, 1).mean[0] < effects.posterior({5: 1.0}).mean[0] - 0.1
    assert effects.posterior({9: 1.0}, 1).mean == pytest.approx(effects.posterior({9: 1.0}).mean)


def test_order_does_not_matter_and_a_score_can_be_subtracted() -> None:
    data = scores()
    one, other = learned(data), learned(data[::-1])
    assert one.posterior({5: 1.0}).mean == pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-9)
    extra = ({5: 0.7, 9: 0.3}, {0: 1.0}, -0.9, 3.0)
    weights = one.add(*extra)
    assert one.posterior({5: 1.0}).mean != pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-3)
    one.add_weighted({task: -weight for task, weight in weights.items()}, extra[1], extra[2])
    assert one.posterior({5: 1.0}).mean == pytest.approx(other.posterior({5: 1.0}).mean, abs=1e-9)


def test_a_score_informs_on_correlated_models_and_hardly_on_others() -> None:
    effects = learned([({5: 1.0}, {0: 1.0}, -0.5, 4.0)] * 10)
    here, elsewhere = effects.posterior({5: 1.0}).mean, effects.posterior({9: 1.0}).mean
    assert here[0] < -0.3 and here[0] < here[1] < -0.04 and abs(here[2]) < 0.01
    assert here[0] < elsewhere[0] < 0.0


def test_an_unknown_task_has_the_overall_effects_and_the_prior_covariance() -> None:
    effects = learned(scores())
    new = effects.posterior({77: 1.0})
    assert new.mean == pytest.approx(effects.overall().mean)
    assert np.allclose(new.covariance, COVARIANCE + effects.overall().covariance)


def test_scores_tie_a_task_down_but_never_quite() -> None:
    (loose, few), (tied, many) = prior(1.0).task(0), prior(1e9).task(0)
    assert np.diag(tied) == pytest.approx(0.05 / np.sqrt(np.diag(OVERALL)), rel=1e-3)
    assert (np.diag(loose) > np.diag(tied)).all()
    assert (np.diag(many) < np.diag(few)).all() and np.diag(many) == pytest.approx([AGEING_VARIANCE] * 3, abs=1e-6)


def test_old_scores_weigh_less_than_new_ones() -> None:
    effects = TaskEffects(prior(), TASKS, memory=50.0)
    for residual in [-0.5] * 200 + [0.5] * 200:
        effects.add({5: 1.0}, {0: 1.0}, residual, 4.0)
    assert effects.posterior({5: 1.0}).mean[0] > 0.3
    assert learned([({5: 1.0}, {0: 1.0}, r, 4.0) for r in [-0.5] * 200 + [0.5] * 200]).posterior({5: 1.0}).mean[0] < 0.1


def test_correlated_models_are_found_and_a_model_without_scores_stays_open() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(120), 10)
    hard = rng.normal(0.0, 0.25, 120)
    truth = np.clip(0.5 + np.stack([hard, hard, rng.normal(0.0, 0.25, 120), hard], axis=1), 0.05, 0.95)
    scores = (rng.random((1200, 4)) < truth[labels]).astype(float)
    scores[:, 3] = np.nan
    prior = np.full_like(scores, np.nan)
    prior[:, 3] = 0.5
    found = fit_prior(labels, truth, scores, prior)
    alike, apart = found.covariance[0, 1], found.covariance[0, 2]
    assert alike > 0.6 * found.covariance[0, 0] and abs(apart) < 0.3 * alike
    assert found.overall_covariance[3, 3] > 0.008 and found.overall_covariance[0, 0] < 0.006
    assert (np.linalg.eigvalsh(found.covariance) > 0.0).all()


def test_noise_is_a_coins_and_a_tenth() -> None:
    assert noise_variance(np.array([0.0, 0.5, 1.0, 7.0])).tolist() == [0.1, 0.35, 0.1, 0.1]
