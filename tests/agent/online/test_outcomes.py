"""Outcomes of calls: what they say of the next one, and that it is a function of the last rows of the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from agent.observations import CallDrift, CallOutcome, DriftKind
from agent.online.outcomes import MIN_LATENCIES, PRIOR_WEIGHT, TASK_WEIGHT, WINDOW, OutcomeStatistics
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
    started = OutcomeStatistics.started(
        log[len(log) // 3 :], {}
    )  # `store.outcomes.OutcomeLog.latest` reads still fewer
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


def test_input_is_counted_as_the_provider_counts_it() -> None:
    rows = [CallOutcome(i, "v/a", 3, "ok", input_tokens=130 * i, encoder_tokens=100 * i) for i in range(1, 31)]
    odd = [CallOutcome(i, "v/a", 3, "ok", input_tokens=130, encoder_tokens=0) for i in range(31, 40)]
    ratio = (PRIOR_WEIGHT + 30 * 1.3) / (PRIOR_WEIGHT + 30)
    assert known(*rows, *odd).forecast(CARD).input_ratio == pytest.approx(ratio)
    assert known(*odd).forecast(CARD).input_ratio == 1.0 == OutcomeStatistics().forecast(CARD).input_ratio


def test_a_few_times_have_no_upper_quantile() -> None:
    rows = [CallOutcome(i, "v/a", 3, "ok", latency_ms=1000.0 * i) for i in range(1, MIN_LATENCIES + 1)]
    few = known(*rows[:-1]).forecast(CARD)
    assert few.latency_ms == 5000.0 and few.latency_ms_upper is None
    assert known(*rows).forecast(CARD).latency_ms_upper == pytest.approx(9100.0)


def changed(
    count: int = 500, at: int = 400, seed: int = 0, *, factors: Mapping[DriftKind, float] = {}
) -> list[CallOutcome]:
    """Calls of a model whose tokens (and cost, of a model that the snapshot knows), times or failures change at a row."""
    rng, rows = np.random.default_rng(seed), []
    for seq in range(1, count + 1):
        by = factors if seq >= at else {}
        if rng.random() < 0.02 * by.get("failures", 1.0):
            rows.append(CallOutcome(seq, "v/a", 3, "error", latency_ms=1.0))
            continue
        tokens = 500.0 * float(rng.lognormal(0.0, 0.6)) * by.get("tokens", 1.0)
        time = 3000.0 * float(rng.lognormal(0.0, 0.5)) * by.get("latency", 1.0)
        rows.append(CallOutcome(seq, "v/a", 3, "ok", tokens, time, tokens * 1e-5, 500e-5))
    return rows


@pytest.mark.parametrize(("kind", "factor"), [("tokens", 2.0), ("tokens", 0.4), ("latency", 2.0), ("failures", 12.0)])
def test_a_drift_of_calls_is_found_dated_and_followed(kind: DriftKind, factor: float) -> None:
    log = changed(factors={kind: factor})
    always = OutcomeStatistics()
    (found,) = always.learn_many(log)
    drift, last = found
    assert (drift.kind, drift.model, last) == (kind, "v/a", 0)
    assert abs(drift.since - 400) < 15 and drift.since < drift.position < 500
    assert drift.shift == pytest.approx(np.log(factor) if kind != "failures" else 0.22, abs=0.25)
    forecast, alone = always.forecast(CARD), known(*log[drift.since - 1 :]).forecast(CARD)
    if kind == "tokens":  # what the card and the snapshot say is from before the change, too
        assert forecast.cost_ratio == pytest.approx(alone.cost_ratio) and forecast.cost_weight > alone.cost_weight
        assert forecast.output_tokens == pytest.approx(500 * 1.2 * factor, rel=0.2)
        assert forecast.latency_ms == pytest.approx(known(*log).forecast(CARD).latency_ms)
    elif kind == "latency":
        assert forecast.latency_ms == pytest.approx(alone.latency_ms)
    else:
        assert forecast.failure_rate == pytest.approx(alone.failure_rate) and alone.failure_rate is not None
        assert 0.1 < alone.failure_rate < 0.4 and forecast.output_tokens < 700


def test_steady_calls_and_other_prompts_are_no_drift() -> None:
    found: list[CallDrift] = []
    for seed in range(5):
        found += OutcomeStatistics().learn_many(changed(2000, seed=seed))
    assert found == []
    rng = np.random.default_rng(0)
    short, long = rng.lognormal(5.0, 0.5, 200), rng.lognormal(7.0, 0.5, 200)
    assert OutcomeStatistics().learn_many([*calls(*short, task=1), *calls(*long, task=2, start=201)]) == []


def test_pages_do_not_matter_to_drifts_and_recorded_ones_take_precedence() -> None:
    log, paged = changed(factors={"tokens": 2.0}), OutcomeStatistics()
    always, found = OutcomeStatistics(), []
    (first,) = always.learn_many(log)
    for start in range(0, len(log), 13):
        found += paged.learn_many(log[start : start + 13])
    assert found == [first] and paged.digest() == always.digest()

    recorded: dict[tuple[str, DriftKind], int] = {("v/a", "tokens"): first.drift.since + 2}
    started = OutcomeStatistics.started(log[-WINDOW - 50 :], recorded)
    assert started.digest() != always.digest()
    always.set_changes(recorded)
    assert started.digest() == always.digest() and started.forecast(CARD) == always.forecast(CARD)


def test_a_drift_that_nobody_was_there_to_find_is_found_later() -> None:
    log = changed(600, factors={"tokens": 3.0})
    started = OutcomeStatistics.started(log[150:450], {})  # the change is in what has been read already
    (found,) = started.learn_many(log[450:])
    assert abs(found.drift.since - 400) < 10 and found.drift.position < 480
