"""Off-policy values against a known truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from agent.evaluation.off_policy import (
    MAX_WEIGHT,
    ScoredChoices,
    Value,
    doubly_robust,
    doubly_robust_terms,
    effective_size,
    importance,
    ips,
    mean_value,
    snips,
)

Array = np.ndarray
RUNS, N, M = 300, 400, 4
WRONG = 0.2
"""How far the model of quality that DR is given is off."""


def choices(chosen: Array, score: Array, propensity: Array, score_weight: Array | None = None) -> ScoredChoices:
    """All scores weigh 1 unless ``score_weight`` says otherwise."""
    return ScoredChoices(chosen, score, np.ones(len(chosen)) if score_weight is None else score_weight, propensity)


def world(seed: int, n: int = N) -> tuple[Array, Array, Array, ScoredChoices]:
    """Expected quality (n, m), a policy to judge, a wrong model of quality, and a log of another policy's choices."""
    rng = np.random.default_rng(seed)
    quality = np.clip(np.array([0.8, 0.6, 0.4, 0.7]) + 0.15 * rng.standard_normal((n, M)), 0.0, 1.0)
    logging = rng.dirichlet([4.0, 3.0, 2.0, 3.0], n) * 0.8 + 0.05
    policy = np.eye(M)[quality.argmax(axis=1)] * 0.7 + 0.3 / M
    chosen = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    rows = np.arange(n)
    score = (rng.random(n) < quality[rows, chosen]).astype(float)
    model = np.clip(quality - WRONG + 0.2 * rng.standard_normal((n, M)), 0.0, 1.0)
    return quality, policy, model, choices(chosen, score, logging)


@cache
def runs() -> dict[str, list[tuple[Value, float]]]:
    """By estimator, 300 values with the truth of each: what the policy earns over all prompts."""
    quality, policy, _, _ = world(10**6, 100_000)
    truth = float((policy * quality).sum(axis=1).mean())
    found: dict[str, list[tuple[Value, float]]] = {"ips": [], "snips": [], "dr": []}
    for seed in range(RUNS):
        _, policy, model, log = world(seed)
        found["ips"].append((ips(policy, log), truth))
        found["snips"].append((snips(policy, log), truth))
        found["dr"].append((doubly_robust(policy, model, log), truth))
    return found


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_intervals_cover_the_truth_as_often_as_they_say(name: str) -> None:
    covered = np.mean([value.interval(0.95)[0] <= truth <= value.interval(0.95)[1] for value, truth in runs()[name]])
    assert 0.90 <= covered <= 0.99


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_values_are_unbiased_and_their_standard_errors_right(name: str) -> None:
    off = np.array([value.mean - truth for value, truth in runs()[name]])
    stderr = np.mean([value.stderr for value, _ in runs()[name]])
    assert abs(off.mean()) < 3 * off.std() / RUNS**0.5 + 0.003
    assert stderr == pytest.approx(off.std(), rel=0.15)


def test_the_lower_bound_is_below_the_truth_as_often_as_it_says() -> None:
    assert 0.90 <= np.mean([value.lower(0.95) <= truth for value, truth in runs()["dr"]]) <= 0.99


def test_doubly_robust_and_self_normalised_are_surer_than_ips() -> None:
    spread = {name: np.std([value.mean for value, _ in values]) for name, values in runs().items()}
    assert spread["dr"] < spread["ips"] and spread["snips"] < spread["ips"]


def test_the_logging_policy_itself_is_worth_its_mean_score() -> None:
    """All weights are 1, so that IPS and SNIPS agree with the plain mean."""
    rng = np.random.default_rng(0)
    logging = rng.dirichlet(np.ones(M), 50)
    chosen = np.array([rng.choice(M, p=p) for p in logging])
    log = choices(chosen, rng.random(50), logging)
    assert ips(logging, log).mean == pytest.approx(log.score.mean())
    assert snips(logging, log).mean == pytest.approx(log.score.mean())


def test_a_perfect_model_needs_no_weights() -> None:
    quality, policy, _, log = world(1)
    exact = replace(log, score=quality[np.arange(N), log.chosen])
    assert doubly_robust_terms(policy, quality, exact) == pytest.approx((policy * quality).sum(axis=1))


def test_weights_are_clipped() -> None:
    log = choices(np.array([0, 0]), np.ones(2), np.array([[1e-4], [0.5]]))
    assert importance(np.ones((2, 1)), log).tolist() == [MAX_WEIGHT, 2.0]
    assert importance(-np.ones((2, 1)), log).tolist() == [-MAX_WEIGHT, -2.0]


def test_snips_stays_in_range_where_ips_does_not() -> None:
    log = choices(np.array([0, 0, 1]), np.ones(3), np.tile([0.1, 0.9], (3, 1)))
    policy = np.array([[1.0, 0.0]] * 3)
    assert ips(policy, log).mean > 1.0 and snips(policy, log).mean == pytest.approx(1.0)


def test_a_policy_that_was_never_tried_has_an_unknown_value() -> None:
    log = choices(np.array([0, 0]), np.ones(2), np.tile([1.0, 0.0], (2, 1)))
    assert snips(np.array([[0.0, 1.0]] * 2), log).stderr == float("inf")


def test_intervals_are_normal_quantiles() -> None:
    value = Value(0.5, 0.1, 100)
    assert value.interval(0.95) == pytest.approx((0.5 - 0.195996, 0.5 + 0.195996), abs=1e-5)
    assert value.lower(0.95) == pytest.approx(0.5 - 0.164485, abs=1e-5)


@pytest.mark.parametrize(("terms", "mean", "stderr"), [([], 0.0, np.inf), ([0.3], 0.3, np.inf), ([0, 1], 0.5, 0.5)])
def test_of_few_terms_the_standard_error_is_large_or_unknown(terms: list[float], mean: float, stderr: float) -> None:
    value = mean_value(np.array(terms, float), np.ones(len(terms)))
    assert (value.mean, value.n) == (mean, len(terms)) and value.stderr == pytest.approx(stderr)


def test_scores_count_by_their_weight() -> None:
    _, policy, model, log = world(3)
    rng = np.random.default_rng(0)
    alike = replace(log, score_weight=np.full(N, 0.3))
    kept = rng.random(N) < 0.5
    half = replace(log, score_weight=kept.astype(float))
    rest = choices(log.chosen[kept], log.score[kept], log.propensity[kept])

    def values(some: ScoredChoices, rows: Array) -> list[Value]:
        return [
            ips(policy[rows], some), snips(policy[rows], some), doubly_robust(policy[rows], model[rows], some),
        ]  # fmt: skip

    every = np.full(N, True)
    for plain, weighed in zip(values(log, every), values(alike, every)):
        assert (weighed.mean, weighed.stderr) == pytest.approx((plain.mean, plain.stderr))
    for fewer, weighed in zip(values(rest, kept), values(half, every)):
        assert (weighed.mean, weighed.stderr) == pytest.approx((fewer.mean, fewer.stderr), rel=0.01)


def test_intervals_of_unevenly_weighted_scores_cover_the_truth() -> None:
    quality, policy, _, _ = world(10**6, 100_000)
    truth = float((policy * quality).sum(axis=1).mean())
    covered = []
    for seed in range(RUNS):
        _, policy, model, log = world(seed)
        score_weight = np.random.default_rng(seed).exponential(size=N)
        low, high = doubly_robust(policy, model, replace(log, score_weight=score_weight)).interval()
        covered.append(low <= truth <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_one_heavy_decision_is_worth_little_more_than_one() -> None:
    assert effective_size(np.ones(9)) == pytest.approx(9.0)
    assert effective_size(np.array([50.0] + [1.0] * 50)) < 4.0


def test_terms_of_a_difference_are_the_difference_of_the_terms_as_defined() -> None:
    for seed in range(20):
        _, _, model, log = world(seed, 30)
        rng = np.random.default_rng([seed, 1])
        after, before = rng.dirichlet(np.ones(M), (2, 30))
        for i, found in enumerate(doubly_robust_terms(after - before, model, log)):
            terms = []
            for policy in (after, before):
                weight = min(policy[i, log.chosen[i]] / log.propensity[i, log.chosen[i]], MAX_WEIGHT)
                expected = sum(policy[i, a] * model[i, a] for a in range(M))
                terms.append(expected + weight * (log.score[i] - model[i, log.chosen[i]]))
            assert found == pytest.approx(terms[0] - terms[1], abs=1e-12)


def test_a_shift_of_all_estimates_moves_a_difference_by_its_importance_weights_alone() -> None:
    _, policy, model, log = world(5)
    apart = policy - log.propensity
    plain, shifted = (doubly_robust_terms(apart, model + shift, log) for shift in (0.0, 0.3))
    assert shifted == pytest.approx(plain - 0.3 * importance(apart, log), abs=1e-12)
