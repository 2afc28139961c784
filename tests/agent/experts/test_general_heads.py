"""Ridge regression on the trunk is exact leave-one-out, however many rows are computed at a time."""

from __future__ import annotations

import numpy as np
import pytest

from agent.experts import general_heads
from agent.experts.general_heads import Trunk, ridge, ridge_weights
from agent.types import Array

N, R = 40, 5
STRENGTHS = np.array([0.5, 5.0, 50.0])


@pytest.fixture(params=[7, 4096])
def features(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Array:
    """(N, R) features of the training prompts, ``param`` rows computed at a time."""
    monkeypatch.setattr(general_heads, "_CHUNK", request.param)
    return np.random.default_rng(0).standard_normal((N, R))


def trunk(features: Array) -> Trunk:
    basis, singular, rotation = np.linalg.svd(features, full_matrices=False)
    return Trunk(np.zeros((0, 0), np.float32), rotation.T, singular**2, basis.astype(np.float32))


def test_estimates_are_those_of_a_fit_without_the_row(features: Array) -> None:
    rng = np.random.default_rng(1)
    target = features @ rng.standard_normal((R, 3)) + rng.standard_normal((N, 3))
    oof, strength = ridge(trunk(features), target, np.ones(target.shape), STRENGTHS)
    for p in range(3):
        for i in range(0, N, 9):
            rest = np.arange(N) != i
            inner = features[rest].T @ features[rest] + strength[p] * np.eye(R)
            expected = features[i] @ np.linalg.solve(inner, features[rest].T @ target[rest, p])
            assert oof[i, p] == pytest.approx(expected, abs=1e-4)


def test_the_strength_of_least_weighted_error_is_taken_and_noise_is_left_out(features: Array) -> None:
    rng = np.random.default_rng(2)
    target = np.column_stack([features @ rng.standard_normal(R), rng.standard_normal(N)])
    oof, strength = ridge(trunk(features), target, np.ones(target.shape), STRENGTHS)
    assert strength[0] == STRENGTHS[0]
    assert strength[1] == np.inf and (oof[:, 1] == 0.0).all()
    assert (ridge_weights(trunk(features), target, strength)[:, 1] == 0.0).all()


def test_weights_are_those_of_the_whole_fit(features: Array) -> None:
    target = np.random.default_rng(3).standard_normal((N, 2))
    found = trunk(features).weight @ ridge_weights(trunk(features), target, np.array([0.5, 5.0]))
    for p, strength in enumerate((0.5, 5.0)):
        right = np.linalg.solve(features.T @ features + strength * np.eye(R), features.T @ target[:, p])
        assert found[:, p] == pytest.approx(right, abs=1e-4)
