"""The cost model: what is known of some prompts' costs is not flattened by prompts whose costs are not known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.encoding import features as text
from agent.encoding.similarity import fit_representation
from agent.experts.cost_model import fit_cost_model
from agent.experts.general_heads import Trunk, fit_trunk

PROMPTS, MODELS = 300, 3


def made() -> tuple[Trunk, NDArray[np.float64]]:
    """Prompts of two kinds, of which one costs eight times as much at every model."""
    rng = np.random.default_rng(0)
    dear = rng.random(PROMPTS) < 0.5
    embeddings = np.where(dear[:, None], np.eye(16)[0], np.eye(16)[1]) + 0.1 * rng.standard_normal((PROMPTS, 16))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    features = np.zeros((PROMPTS, len(text.PLAIN) + 8), np.float32)
    representation = fit_representation(embeddings, features, PROMPTS)
    trunk = fit_trunk(representation.transform(embeddings, features), representation, 100, rng)
    costs = np.exp(
        np.log(8.0) * dear[:, None] + np.array([-9.0, -7.0, -5.0]) + 0.1 * rng.standard_normal((PROMPTS, MODELS))
    )
    return trunk, costs


def error(trunk: Trunk, costs: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Mean absolute error of the expected costs, trained on those ``known``, as a share of the models' mean costs."""
    fitted = fit_cost_model(trunk, np.where(known, costs, np.nan))
    logs = trunk.basis * np.sqrt(trunk.power) @ fitted["cost_weight"][:-1] + fitted["cost_weight"][-1]
    expected = np.exp(np.clip(logs, *fitted["cost_range"]))
    return float((np.abs(expected - costs).mean(axis=0) / costs.mean(axis=0)).mean())


def test_prompts_whose_costs_are_not_known_do_not_flatten_it() -> None:
    trunk, costs = made()
    rng = np.random.default_rng(1)
    whole = error(trunk, costs, np.ones(costs.shape, bool))
    seeds = error(trunk, costs, np.repeat(np.arange(PROMPTS)[:, None] >= 100, MODELS, axis=1))
    one_each = error(trunk, costs, rng.integers(MODELS, size=PROMPTS)[:, None] == np.arange(MODELS))
    assert whole < 0.12 and seeds < 0.15 and one_each < 0.2


def test_a_model_with_few_costs_of_many_prompts_is_not_relied_on() -> None:
    trunk, costs = made()
    known = np.ones(costs.shape, bool)
    known[10:, 2] = False
    upper = fit_cost_model(trunk, np.where(known, costs, np.nan))["cost_upper"]
    assert upper[2] == 0.0 < min(upper[:2])
    assert fit_cost_model(trunk, np.full(costs.shape, np.nan)) == {}
