"""Training beyond the closed form starts at it, is believed as far as it pays out of fold, and is the same every time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from agent.estimate import Estimator
from agent.examples import Scores
from agent.experts import training
from agent.experts.general_heads import GeneralHeads, Trunk, cross_fitted
from agent.experts.training import Experts, Prompts, change, cross_fit, pair_loss, train
from agent.fit import FitConfig, fit
from agent.tasks.means import Variances
from agent.types import Array
from tests.agent.experts.slopes import slopes, snapshot

N, MODELS, TASKS = 400, 3, 2
VARIANCES = Variances(prompt=0.02, noise=0.04)
ALL = np.ones((TASKS, MODELS), bool)
FOLDS = [np.arange(N) % 5 == f for f in range(5)]


def made(slope: float, scored: int = MODELS, seed: int = 0) -> tuple[Prompts, Array]:
    """Prompts of which ``scored`` models each are scored, whose quality has a ``slope`` by task, and a closed form of .5."""
    rng = np.random.default_rng(seed)
    inputs = np.concatenate([rng.standard_normal((N, 2)), np.ones((N, 1))], axis=1)
    labels = np.arange(N) % TASKS
    sign = np.where(labels == 0, 1.0, -1.0)[:, None] * np.array([1.0, -1.0, 0.0])
    value = 0.5 + slope * inputs[:, :1] * sign + 0.2 * rng.standard_normal((N, MODELS))
    seen = rng.permuted(np.tile(np.arange(MODELS) < scored, (N, 1)), axis=1)
    scores = Scores(np.where(seen, value, 0.0), seen.astype(np.float64))
    return Prompts.of(inputs, inputs, labels, scores, VARIANCES), np.full((N, MODELS), 0.5)


def fitted(prompts: Prompts, closed: Array) -> training.Change:
    """The change of the task phase."""
    probabilities = np.eye(TASKS)[prompts.labels]
    return cross_fit("task", prompts, np.arange(N), closed, [(f, closed) for f in FOLDS], ALL, probabilities)


def test_an_untrained_module_is_the_closed_form_exactly() -> None:
    rng = np.random.default_rng(0)
    closed, inputs = torch.from_numpy(rng.random((9, MODELS))), torch.from_numpy(rng.random((9, 4)))
    experts = Experts(4, 4, ALL)
    assert torch.equal(experts(closed, inputs, inputs, torch.zeros(9, dtype=torch.int64)), closed)


def test_slopes_of_tasks_are_learned_by_task_heads_and_not_by_general_ones() -> None:
    prompts, closed = made(0.1)
    found = fitted(prompts, closed)
    assert found.factor > 0.9
    for task, sign in ((0, 1.0), (1, -1.0)):
        up, down, level = sign * found.weights[task, 0]  # pulled to 0
        assert 0.02 < up < 0.1 and 0.02 < -down < 0.1 and abs(level) < 0.01
    general = cross_fit(
        "general", prompts, np.arange(N), closed, [(f, closed) for f in FOLDS], ALL, np.eye(TASKS)[prompts.labels]
    )
    assert general.factor == 0.0 and not general.weights.any() and not general.oof.any()


def test_what_does_not_pay_out_of_fold_is_not_believed() -> None:
    for seed in range(3):
        found = fitted(*made(0.0, seed=seed))
        assert found.factor == 0.0 and not found.weights.any() and not found.oof.any()


def test_the_change_of_a_prompt_does_not_know_its_scores() -> None:
    prompts, closed = made(0.1)
    value = prompts.scores.value.copy()
    value[FOLDS[0]] += 0.3 * np.random.default_rng(1).standard_normal(value[FOLDS[0]].shape)
    other = replace(prompts, scores=Scores(value, prompts.scores.score_weight))
    one, two = fitted(prompts, closed), fitted(other, closed)
    assert one.oof[FOLDS[0]] / one.factor == pytest.approx(two.oof[FOLDS[0]] / two.factor, abs=1e-9)
    assert np.abs(one.oof - two.oof).max() > 1e-4


def test_a_model_scored_alone_counts_by_its_squared_error_only() -> None:
    quality, value = torch.tensor([[0.4, 0.9]]), torch.tensor([[0.7, 0.1]])
    alone, share = torch.tensor([[1.0, 0.0]]), torch.tensor([0.25])
    squared = 0.75 * 0.3**2 / (2 * 0.04)
    assert pair_loss(quality, value, alone, share, 0.04).item() == pytest.approx(squared, rel=1e-4)
    both, half = torch.ones(1, 2), torch.tensor([0.5])
    right, wrong = (pair_loss(value + d, value, both, half, 0.04).item() for d in (0.0, torch.tensor([-0.6, 0.6])))
    shifted = pair_loss(value + 0.2, value, both, half, 0.04).item()
    assert right < wrong and shifted == pytest.approx(right, abs=1e-4)  # only differences count


def test_a_score_of_little_weight_counts_little() -> None:
    prompts, closed = made(0.1)
    light = replace(prompts, scores=Scores(prompts.scores.value, 0.01 * prompts.scores.score_weight))
    heavy, little = (np.abs(train("task", p, closed, ALL)).max() for p in (prompts, light))
    assert little < 0.5 * heavy


def test_one_score_a_prompt_is_enough_and_equal_inputs_give_equal_weights() -> None:
    prompts, closed = made(0.15, scored=1)
    found = train("task", prompts, closed, ALL)
    assert found[0, 0, 0] > 0.01 and found[1, 0, 0] < -0.01
    threads = torch.get_num_threads()
    assert np.array_equal(fitted(prompts, closed).weights, fitted(prompts, closed).weights)
    assert torch.get_num_threads() == threads
    assert change("task", found, prompts).shape == (N, MODELS)


def test_general_heads_without_a_fold_are_those_fitted_without_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, 12)) * np.linspace(2.0, 0.3, 12)
    basis, singular, rotation = np.linalg.svd(features, full_matrices=False)
    trunk = Trunk(np.zeros((0, 0), np.float32), rotation.T, singular**2, basis.astype(np.float32))
    contrast, strength = features @ rng.standard_normal((12, 2)) + rng.standard_normal((N, 2)), np.array([5.0, np.inf])
    heads = GeneralHeads(np.zeros((13, 2)), contrast, contrast, strength, np.eye(2))
    rows = np.arange(0, N, 2)
    found = next(cross_fitted(trunk, heads, rows, [FOLDS[0][rows]]))
    known = np.ones(N, bool)
    known[rows[FOLDS[0][rows]]] = False
    inner = features[known].T @ features[known] + 5.0 * np.eye(12)
    expected = features[rows] @ np.linalg.solve(inner, features[known].T @ contrast[known, 0])
    hidden = FOLDS[0][rows]
    assert found[hidden, 0] == pytest.approx(expected[hidden], abs=0.01)
    assert (found[:, 1] == 0.0).all()


def test_heads_win_where_tasks_have_slopes_of_their_own() -> None:
    """Against the oracle's .689, regret falls by a quarter beside no task heads, and by a seventh beside no heads at all."""
    fresh, truth = slopes(1000, seed=1)
    regret = {}
    for name, made_by in {
        "all": snapshot(),
        "no task heads": fit(slopes(600)[0], encoder="made", config=FitConfig(task_heads=False)),
        "no heads": fit(slopes(600)[0], encoder="made", config=FitConfig(general_heads=False)),
    }.items():
        estimator = Estimator(made_by)
        quality = estimator.shrink_to_mean(estimator.estimate_batch(fresh.embeddings, fresh.features).quality)
        regret[name] = float((truth.max(axis=1) - truth[np.arange(len(truth)), quality.argmax(axis=1)]).mean())
    assert regret["all"] < 0.85 * regret["no task heads"]
    assert regret["all"] < 0.9 * regret["no heads"]


def test_routing_needs_no_torch() -> None:
    code = "import sys, agent.router, agent.estimate, agent.experts.stack; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
