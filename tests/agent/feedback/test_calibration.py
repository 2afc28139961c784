"""Calibration by hand: sources against the regression written out, raters and outcomes against their formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from agent.feedback.calibration import (
    INTERCEPT_SD,
    MIN_NOISE,
    MIN_SLOPE,
    PRIOR_NOISE,
    SLOPE_SD,
    AffineCalibration,
    CalibrationSample,
    Kind,
    Rating,
    SourceCalibration,
    Target,
    calibration_samples,
    outcome,
    outcome_variance,
)
from agent.feedback.raters import OFFSET_SD, RaterReliability
from agent.observations import Observation
from agent.types import Encoded

PROMPT = Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
KINDS: list[Kind] = ["score", "comparison"]


def samples(n: int = 40, target: Target = "evaluation", slope: float = 0.7) -> list[CalibrationSample]:
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        x = float(rng.uniform(0.1, 0.9))
        y = 0.25 + slope * x + float(rng.normal(0.0, 0.3))
        out.append(CalibrationSample(y, x, outcome_variance(x), float(rng.uniform()), float(rng.uniform()), target))
    return out


def calibrated(data: list[CalibrationSample], kind: Kind = "score", cap: float = 200.0) -> SourceCalibration:
    source = SourceCalibration(kind, max_unverified_weight=cap)
    for sample in data:
        source.update(sample)
    return source


def regression(data: list[CalibrationSample], kind: Kind, share: float = 1.0) -> tuple[float, float, float]:
    """Posterior mean of (intercept, slope) given the prior noise, and the relative noise about it, by matrices."""
    noise = PRIOR_NOISE[kind]
    x, y = np.array([[1.0, s.outcome] for s in data]), np.array([s.value for s in data])
    w = share * np.array([s.weight for s in data])
    prior = np.diag([noise / INTERCEPT_SD**2, noise / SLOPE_SD**2])
    intercept, slope = np.linalg.solve(x.T @ (w[:, None] * x) + prior, x.T @ (w * y) + prior @ [0.0, 1.0])
    variance = w * np.array([s.variance for s in data])
    explained = float(variance @ [s.explained for s in data])
    residual = float(w @ (y - x @ [intercept, slope]) ** 2) + slope**2 * explained
    return intercept, slope, (residual + 20.0 * noise) / (variance.sum() + 20.0 * noise)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_a_bayesian_regression(kind: Kind) -> None:
    data = samples()
    found = calibrated(data, kind).affine()
    assert (found.intercept, found.slope, found.noise) == pytest.approx(regression(data, kind))
    assert found.weight == pytest.approx(found.slope**2 / found.noise) and found.weight < 0.97


@pytest.mark.parametrize("target", ["decision", "others"])
def test_samples_that_were_not_evaluated_weigh_at_most_their_cap(target: Target) -> None:
    data = samples(target=target)
    share = 5.0 / (5.0 + sum(s.weight for s in data))
    found = calibrated(data, cap=5.0).affine()
    assert (found.intercept, found.slope, found.noise) == pytest.approx(regression(data, "score", share))


def test_samples_of_all_targets_count_and_can_be_subtracted() -> None:
    targets: list[Target] = ["decision", "others", "evaluation"]
    data = [replace(s, target=targets[i % 3]) for i, s in enumerate(samples())]
    source, evaluated = calibrated(data), calibrated([s for s in data if s.target == "evaluation"])
    assert source.affine() != evaluated.affine()
    for sample in data:
        if sample.target != "evaluation":
            source.update(sample, -1.0)
    assert source.affine().slope == pytest.approx(evaluated.affine().slope, abs=1e-12)


def test_slope_and_noise_have_lower_bounds() -> None:
    contrary = calibrated(samples(2000, slope=-0.7)).affine()
    assert contrary.slope == MIN_SLOPE
    surely = calibrated([CalibrationSample(0.5, 0.5, 0.25, 1.0, 1.0, "evaluation")] * 2000).affine()
    certain = calibrated([CalibrationSample(x, x, 0.25, 0.0, 1.0, "evaluation") for x in (0.0, 1.0)] * 1000).affine()
    assert surely.noise > certain.noise == MIN_NOISE and certain.weight == 1.0


def test_a_rater_is_honest_by_three_to_one_in_log_odds() -> None:
    assert RaterReliability().reliability == pytest.approx(1.0 / (1.0 + math.exp(-3.0)))
    assert RaterReliability(spam_log_odds=3.0).reliability == 0.5
    rater = RaterReliability()
    assert rater.sums("score") is rater.scores and rater.sums("comparison") is rater.comparisons


@pytest.mark.parametrize("kind", KINDS)
def test_a_raters_offset_is_a_shrunken_mean(kind: Kind) -> None:
    rater, source = RaterReliability(), AffineCalibration(0.1, 0.8, 1.0)
    ratings = [(0.9, 0.5), (0.7, 0.4), (1.0, 0.9)]
    for value, mean in ratings:
        rater.update(kind, value, mean, source)
    above = sum(value - 0.1 - 0.8 * mean for value, mean in ratings)
    assert rater.offset(kind, source) == pytest.approx(above / (3 + PRIOR_NOISE[kind] / OFFSET_SD**2))
    assert rater.offset("comparison" if kind == "score" else "score", source) == 0.0


@pytest.mark.parametrize(("kind", "good", "bad"), [("score", 1.0, 0.0), ("comparison", 1.0, -1.0)])
def test_a_rating_adds_the_log_likelihood_ratio_of_spam(kind: Kind, good: float, bad: float) -> None:
    """The first is a coin to a spammer; the second is as likely as the mean of the first and half a rating each way."""
    rater, source = RaterReliability(), AffineCalibration(0.0, 1.0, 1.0)
    mean = 0.8 if kind == "score" else 0.6  # .8 as a probability
    first = rater.update(kind, good, mean, source)
    assert first == pytest.approx(math.log(0.5 / 0.8)) and rater.spam_log_odds == first
    offset = rater.offset(kind, source) / (1.0 if kind == "score" else 2.0)
    second = rater.update(kind, bad, mean, source)
    assert second == pytest.approx(math.log(0.25 / (0.2 - offset)))
    assert rater.spam_log_odds == pytest.approx(first + second)
    rater.downdate(kind, bad, mean, second)
    rater.downdate(kind, good, mean, first)
    left = rater.sums(kind)
    assert (left.n_ratings, left.outcomes, left.value, rater.spam_log_odds) == pytest.approx((0, 0, 0, 0), abs=1e-12)
    rater.downdate(kind, good, mean, first)  # of a rater who was dropped and came back
    assert left.n_ratings == 0.0 and rater.spam_log_odds == pytest.approx(0.0, abs=1e-12)


def test_one_rating_and_a_long_record_are_bounded() -> None:
    source = AffineCalibration(0.0, 1.0, 1.0)
    assert RaterReliability().update("score", 0.0, 1.0, source) == pytest.approx(math.log(0.5 / 0.05))
    liar, saint = RaterReliability(), RaterReliability()
    for n in range(300):
        liar.update("score", float(n % 2), float(n % 2 == 0), source)
        saint.update("score", float(n % 2), float(n % 2), source)
    assert (liar.spam_log_odds, saint.spam_log_odds) == (12.0, -6.0)
    always = RaterReliability()
    always.sums("score").n_ratings = always.sums("score").value = 1e6
    assert always.update("score", 1.0, 0.5, AffineCalibration(0.0, 0.0, 1.0)) < math.log(0.98 / 0.05) + 1e-9


def rating(source: str = "user", weight: float = 0.5, calibrated: float = 0.9, other: str | None = None) -> Rating:
    return Rating(source, "", other, 0.7, 0.5, 0.27, None, calibrated, weight, 0.3)


def test_an_outcome_is_the_precision_weighted_mean_of_expectation_and_others() -> None:
    mine = rating()
    assert outcome(mine, []) == (0.5, 0.0)
    assert outcome(mine, [rating(weight=0.5, calibrated=0.9)]) == pytest.approx((0.7, 0.5))
    two = [rating(weight=0.5, calibrated=0.9), rating(weight=0.75, calibrated=0.1)]  # precisions 1 and 3
    assert outcome(mine, two) == pytest.approx((0.5 + (0.4 - 3 * 0.4) / 5.0, 4.0 / 5.0))
    assert outcome(mine, [rating(weight=1.0)]) == pytest.approx((0.5 + 9.0 * 0.4 / 10.0, 0.9)), "at most 0.9"
    assert outcome(mine, [rating(calibrated=3.0)])[0] == 1.0 and outcome(mine, [rating(calibrated=-3.0)])[0] == 0.0


def test_comparisons_neither_inform_outcomes_nor_are_informed() -> None:
    assert outcome(rating(), [rating(other="b")]) == (0.5, 0.0)
    assert outcome(rating(other="b"), [rating()]) == (0.5, 0.0)
    assert outcome(replace(rating(other="b"), expected=-0.4), []) == (-0.4, 0.0), "a difference is not clipped"


def test_samples_are_by_the_decision_and_by_other_sources_or_by_an_evaluation() -> None:
    mine, same, judge = rating(), rating(calibrated=0.1), rating("judge")
    alone = CalibrationSample(0.7, 0.5, 0.27, 0.0, 0.3, "decision")
    assert calibration_samples(mine, [mine, same]) == [alone]
    first, second = calibration_samples(mine, [mine, same, judge])
    assert first == alone and (second.value, second.variance, second.weight, second.target) == (
        0.7,
        0.27,
        0.3,
        "others",
    )
    assert (second.outcome, second.explained) == pytest.approx((0.7, 0.5))
    evaluated = replace(mine, evaluated=0.2)
    assert calibration_samples(evaluated, [evaluated, judge]) == [
        CalibrationSample(0.7, 0.2, 0.27, 1.0, 0.3, "evaluation")
    ]


def test_a_rating_of_a_row() -> None:
    row = Observation(1, "d", "p", "a", 0.75, "judge", "gpt", PROMPT, expected=0.6, expected_other=0.8)
    known = {("p", "a"): 0.9, ("p", "b"): 0.2}

    def evaluated(prompt_id: str, model: str) -> float | None:
        return known.get((prompt_id, model))

    assert Rating.of(row, None) == Rating("judge", "gpt", None, 0.75, 0.6, outcome_variance(0.6), None)
    assert Rating.of(row, evaluated).evaluated == 0.9
    comparison = Rating.of(replace(row, other="b"), evaluated)
    assert comparison.value == 0.5 and comparison.expected == pytest.approx(-0.2)
    assert comparison.variance == pytest.approx(0.02 + 0.24 + 0.02 + 0.16)
    assert comparison.evaluated == pytest.approx(0.7)
    for other in ("c", "b"):
        known.pop(("p", "a"), None) if other == "b" else None
        assert Rating.of(replace(row, other=other), evaluated).evaluated is None
    assert Rating.of(replace(row, other="b"), None).evaluated is None
    unknown = Rating.of(replace(row, expected=math.nan), None)
    assert unknown.expected is None and unknown.variance == pytest.approx(0.27) and not unknown.has_outcome
    assert replace(unknown, evaluated=0.0).has_outcome and replace(unknown, expected=0.0).has_outcome


def test_the_variance_of_an_outcome_is_a_coins_and_two_hundredths() -> None:
    variances = [outcome_variance(p) for p in (-1.0, 0.0, 0.2, 0.5)]
    assert variances == pytest.approx([0.02, 0.02, 0.18, 0.27]) and all(a <= b for a, b in pairwise(variances))
    assert outcome_variance(7.0) == pytest.approx(0.02)
