"""Outcomes of calls: what they say of the next one, and that it is a function of the last rows of the log."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agent.observations import CallOutcome
from agent.online.outcomes import PRIOR_WEIGHT, TASK_WEIGHT, WINDOW, OutcomeStatistics
from agent.types import TYPICAL_OUTPUT_TOKENS, ModelCard

CARD = ModelCard("v/a", price_output=10.0)


def calls(*tokens: float, start: int = 1, task: int = 3, model: str = "v/a") -> list[CallOutcome]:
    return [CallOutcome(start + i, model, task, "ok", output_tokens=t) for i, t in enumerate(tokens)]


def made(count: int, seed: int = 0) -> Iterator[CallOutcome]:
    """Calls of three models, a fifth of which fail; of some, a figure is missing."""
    rng = np.random.default_rng(seed)
    for seq in range(1, count + 1):
        model, task = f"v/{'abc'[rng.integers(3)]}", int(rng.integers(4))
        if rng.random() < 0.2:
            yield CallOutcome(seq, model, task, "timeout", latency_ms=60_000.0)
            continue
        tokens, cost, snapshot = rng.lognormal(size=3)
        yield CallOutcome(
            seq, model, task, "ok", output_tokens=None if rng.random() < 0.1 else float(tokens),
            latency_ms=float(rng.exponential()), cost_usd=float(cost),
            snapshot_cost=None if rng.random() < 0.5 else float(snapshot),
        )  # fmt: skip


def known(*rows: CallOutcome) -> OutcomeStatistics:
    found = OutcomeStatistics()
    found.learn_many(rows)
    return found


def test_without_outcomes_the_card_decides() -> None:
    assert OutcomeStatistics().forecast(CARD).output_tokens == TYPICAL_OUTPUT_TOKENS
    thinker = OutcomeStatistics().forecast(ModelCard("v/t", output_tokens=5000))
    assert thinker.output_tokens == 5000 < thinker.output_tokens_upper
    assert thinker.failure_rate is None and thinker.latency_ms is None and thinker.n_calls == 0


def test_a_model_that_thinks_is_known_by_its_outcomes() -> None:
    n = 90
    forecast = known(*calls(*[5000.0] * n)).forecast(CARD)
    expected = (PRIOR_WEIGHT * TYPICAL_OUTPUT_TOKENS + n * 5000) / (PRIOR_WEIGHT + n)
    assert forecast.output_tokens == pytest.approx(expected)
    assert forecast.output_tokens <= forecast.output_tokens_upper < 5000


def test_nine_of_ten_answers_stay_within_the_upper_quantile() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.lognormal(6.0, 0.8, size=WINDOW)
    upper = known(*calls(*tokens)).forecast(CARD).output_tokens_upper
    assert 0.85 < (rng.lognormal(6.0, 0.8, size=5000) <= upper).mean() < 0.95


def test_a_task_has_a_length_of_its_own_as_far_as_it_has_outcomes() -> None:
    found = known(*calls(*[100.0] * 100, task=1), *calls(*[900.0] * 100, task=2, start=101))
    short, long, other = (found.forecast(CARD, task).output_tokens for task in (1, 2, 9))
    assert short < other < long and other == pytest.approx(found.forecast(CARD).output_tokens)
    assert long == pytest.approx((TASK_WEIGHT * other + 100 * 900) / (TASK_WEIGHT + 100))


def test_one_answer_that_ran_on_is_no_trend() -> None:
    usual = [300.0 + 10 * (i % 10) for i in range(60)]
    before, after = known(*calls(*usual)), known(*calls(*usual, 60_000.0))
    assert after.forecast(CARD).output_tokens < 1.2 * before.forecast(CARD).output_tokens


@pytest.mark.parametrize("status", ["error", "timeout", "cancelled"])
def test_a_failed_call_says_nothing_of_tokens_cost_and_time(status: str) -> None:
    failed = [
        CallOutcome(i, "v/a", 3, status, 1, 0.1, 9.0, 1.0)  # type: ignore[arg-type]
        for i in range(11, 16)
    ]
    found, before = known(*calls(*[500.0] * 10), *failed).forecast(CARD), known(*calls(*[500.0] * 10)).forecast(CARD)
    assert found.failure_rate == pytest.approx(1 / 3) and found.n_calls == 15
    assert (found.output_tokens, found.cost_weight, found.latency_ms) == (before.output_tokens, 0.0, None)


def test_costs_correct_the_snapshot_by_the_ratio_of_sums() -> None:
    rows = [CallOutcome(i, "v/a", 3, "ok", None, None, 0.03 if i % 2 else 0.01, 0.01) for i in range(1, 61)]
    forecast = known(*rows).forecast(CARD)
    assert forecast.cost_ratio == pytest.approx(2.0) and forecast.cost_ratio_upper == pytest.approx(3.0)
    assert 0.5 < forecast.cost_weight < 1.0


def test_a_replica_that_starts_from_the_last_rows_knows_what_others_know() -> None:
    log = list(made(14 * WINDOW))
    always = known(*log)
    started = known(*log[len(log) // 3 :])  # `store.outcomes.OutcomeLog.latest` reads still fewer
    assert started.digest() == always.digest()
    for name in ("v/a", "v/b", "v/c"):
        one, two = (found.forecast(ModelCard(name), 2) for found in (always, started))
        assert one.output_tokens == two.output_tokens and one.cost_ratio == two.cost_ratio
        assert one.latency_ms == pytest.approx(two.latency_ms) and one.failure_rate == pytest.approx(two.failure_rate)


def test_pages_and_repeats_change_nothing() -> None:
    log = list(made(500))
    paged = OutcomeStatistics()
    for start in range(0, 500, 37):
        paged.learn_many(log[max(start - 5, 0) : start + 37])
    assert paged.digest() == known(*log).digest() != known(*log[:-1]).digest()
    assert paged.forecast(CARD, 1) == known(*log).forecast(CARD, 1)
