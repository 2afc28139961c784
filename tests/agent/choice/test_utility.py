"""Expected cost, and lambda."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.choice.utility import EVEN_PREMIUM, cost_weight, expected_costs
from agent.types import TYPICAL_OUTPUT_TOKENS, CallForecast, ModelCard, RouteRequest

CARDS = (ModelCard("dear", price_input=10.0, price_output=30.0), ModelCard("cheap", price_input=0.1), ModelCard("free"))


NONE = np.full(3, np.nan)


def costs(request: RouteRequest, *forecasts: CallForecast, snapshot: float = np.nan) -> tuple[list[float], list[float]]:
    """Mean and upper costs of a prompt of 2,000 tokens; ``snapshot``: USD that each model is known to cost."""
    known = forecasts or tuple(CallForecast(float(TYPICAL_OUTPUT_TOKENS), 900.0) for _ in CARDS)
    found = expected_costs(CARDS, 2000, request, known, np.full(3, snapshot), np.full(3, 2.0 * snapshot))
    return found.mean.tolist(), found.upper.tolist()


@pytest.mark.parametrize(("asked", "counted"), [(None, TYPICAL_OUTPUT_TOKENS), (7, 7), (10**6, TYPICAL_OUTPUT_TOKENS)])
def test_a_request_costs_its_prompt_and_a_typical_or_shorter_answer(asked: int | None, counted: int) -> None:
    cost, upper = costs(RouteRequest((), output_tokens=asked))
    assert cost == pytest.approx([(2000 * 10 + counted * 30) / 1e6, 2000 * 0.1 / 1e6, 0.0])
    assert upper[0] == pytest.approx((2000 * 10 + min(asked or 900, 900) * 30) / 1e6)


def test_an_empty_pool_costs_nothing() -> None:
    assert expected_costs((), 10, RouteRequest(()), (), NONE[:0], NONE[:0]).mean.shape == (0,)


def test_what_the_snapshot_knows_is_corrected_by_outcomes_as_far_as_there_are_any() -> None:
    request, cold = RouteRequest(()), CallForecast(350.0, 900.0)
    assert costs(request, cold, cold, cold, snapshot=0.5) == ([0.5] * 3, [1.0] * 3)
    half = CallForecast(350.0, 900.0, cost_ratio=3.0, cost_ratio_upper=4.0, cost_weight=0.5)
    assert costs(request, half, half, half, snapshot=0.5) == ([1.0] * 3, [1.5] * 3)


def test_no_answer_costs_more_than_the_longest_that_is_allowed() -> None:
    forecast = CallForecast(350.0, 900.0)
    mean, upper = costs(RouteRequest((), output_tokens=10), forecast, forecast, forecast, snapshot=0.5)
    assert mean[0] == upper[0] == pytest.approx((2000 * 10 + 10 * 30) / 1e6)
    assert mean[2] == 0.5  # its card has no price, so its costs are known from evaluations alone


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
