"""`evaluate --costs`: expected beside true cost, before and after outcomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.types import ModelCard
from jobs.evaluate.costs import LIST, STATES, figures, implied_tokens, measure
from store.encoders.cache import CachedEncoder
from tests.jobs.made import COSTS, WordEncoder, records, write


def test_outcomes_teach_what_a_model_that_thinks_costs(tmp_path: Path) -> None:
    """At the price of the first model its answers look ten times as cheap as they are."""
    cheap, dear = min(COSTS, key=COSTS.__getitem__), max(COSTS, key=COSTS.__getitem__)
    card = ModelCard(dear, price_output=COSTS[dear] * 1e6 / 3500)
    encoder = CachedEncoder(WordEncoder(), tmp_path / "cache")
    files = write(tmp_path / "train.jsonl", records(120)), write(tmp_path / "test.jsonl", records(300, seed=1))
    found = measure(*files, encoder=encoder, cards=[card])
    assert found is not None and dear not in found["fitted"] and cheap in found["fitted"]
    assert tuple(found["states"]) == STATES and found["prompts"] == found["outcomes"] == 150
    states = {state: models[dear] for state, models in found["states"].items()}
    assert states[LIST]["bias"] == states["cold"]["bias"] < -0.85 and states["cold"]["coverage"] < 0.1
    assert abs(states["cold, after outcomes"]["bias"]) < 0.3
    assert abs(states["trained"]["bias"]) < 0.1 and abs(states["trained, after outcomes"]["bias"]) < 0.1
    assert 0.7 < states["trained, after outcomes"]["coverage"] <= 1.0


def test_without_costs_there_is_nothing_to_measure(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "costs"} for row in records(40)]
    path = write(tmp_path / "t.jsonl", rows)
    assert measure(path, path, encoder=CachedEncoder(WordEncoder(), tmp_path), cards=[]) is None


def test_figures_are_relative_to_the_true_mean() -> None:
    true, mean = np.array([[1.0, np.nan], [3.0, np.nan]]), np.array([[2.0, 0.0], [3.0, 0.0]])
    found = figures(["a", "b"], true, mean, np.array([[2.0, 0.0], [2.5, 0.0]]))
    assert found == {
        "a": {"bias": 0.25, "mae": 0.25, "coverage": 0.5},
        "all": {"bias": 0.25, "mae": 0.25, "coverage": 0.5},
    }


def test_a_cost_says_how_long_the_answer_was() -> None:
    card = ModelCard("a", price_input=2.0, price_output=10.0)
    assert implied_tokens(card, 100, (100 * 2 + 70 * 10) / 1e6) == pytest.approx(70.0)
    assert implied_tokens(card, 10**6, 0.0) == 0.0 and implied_tokens(ModelCard("free"), 100, 0.0) is None
