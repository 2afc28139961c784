"""Expected cost, and lambda."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.choice.utility import EVEN_PREMIUM, TYPICAL_OUTPUT_TOKENS, cost_weight, expected_costs
from agent.types import ModelCard, RouteRequest

CARDS = (ModelCard("dear", price_input=10.0, price_output=30.0), ModelCard("cheap", price_input=0.1), ModelCard("free"))


@pytest.mark.parametrize(("asked", "counted"), [(None, TYPICAL_OUTPUT_TOKENS), (7, 7), (10**6, TYPICAL_OUTPUT_TOKENS)])
def test_a_request_costs_its_prompt_and_a_typical_or_shorter_answer(asked: int | None, counted: int) -> None:
    cost = expected_costs(CARDS, 2000, RouteRequest((), output_tokens=asked))
    assert cost == pytest.approx([(2000 * 10 + counted * 30) / 1e6, 2000 * 0.1 / 1e6, 0.0])


def test_an_empty_pool_costs_nothing() -> None:
    assert expected_costs((), 10, RouteRequest(())).shape == (0,)


def test_the_best_quality_has_no_price_and_a_free_pool_neither() -> None:
    assert cost_weight(1.0, 0.01) == 0.0 and cost_weight(0.5, 0.0) == 0.0


def test_at_one_half_the_dearest_must_be_better_by_the_even_premium() -> None:
    assert cost_weight(0.5, 0.02) * 0.02 == pytest.approx(EVEN_PREMIUM)


def test_at_zero_no_quality_is_worth_a_cent() -> None:
    """One millionth of the dearest model's cost outweighs all the quality there is."""
    assert cost_weight(0.0, 0.01) * 0.01 * 1e-6 >= 1.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-9, 10.0))
def test_lambda_falls_as_quality_is_asked_for(left: float, right: float, dearest: float) -> None:
    low, high = sorted((left, right))
    assert np.isfinite(cost_weight(low, dearest))
    assert cost_weight(low, dearest) >= cost_weight(high, dearest) >= 0.0


@given(st.floats(0.01, 1), st.floats(1e-9, 10.0), st.floats(0.1, 100.0))
def test_the_currency_does_not_matter(tradeoff: float, dearest: float, rate: float) -> None:
    assert cost_weight(tradeoff, dearest) == pytest.approx(rate * cost_weight(tradeoff, dearest * rate))
