"""The drift detector finds a change soon, dates it, and hardly ever alarms without one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.online.drift import STALE_WEIGHT, DriftConfig, DriftDetector, DriftDetectors, drift_adjustment
from agent.types import Drift

MIN_TESTED = 3 * DriftConfig().min_after


def found_drifts(
    n: int, change_at: int | None, shift: float, seed: int, config: DriftConfig = DriftConfig()
) -> list[Drift]:
    """Coins of 0.7 against an expectation of 0.7; from ``change_at`` on they fall by ``shift``."""
    rng, detector, found = np.random.default_rng(seed), DriftDetector("a", config), []
    for seq in range(n):
        chance = 0.7 - (shift if change_at is not None and seq >= change_at else 0.0)
        drift = detector.learn_one(seq, float(rng.random() < chance) - 0.7, 0.2)
        if drift is not None:
            found.append(drift)
            detector = DriftDetector("a", config)
    return found


def test_a_fall_of_a_third_is_found_within_150_scores_with_its_size() -> None:
    delays = []
    for seed in range(20):
        drift = found_drifts(700, 400, 0.3, seed)[0]
        delays.append(drift.position - 400)
        assert drift.model == "a" and drift.shift < -0.1
    assert np.median(delays) < 70 and max(delays) < 150 and min(delays) > 0


def test_steady_models_hardly_ever_alarm() -> None:
    alarms = sum(len(found_drifts(3000, None, 0.0, seed)) for seed in range(10))
    assert alarms <= 2


def test_the_change_point_is_near_the_change() -> None:
    since = [found_drifts(700, 400, 0.4, seed)[0].since for seed in range(10)]
    assert np.median(np.abs(np.array(since) - 400)) <= 10


def test_adwin_backs_up_the_scan() -> None:
    no_scan = DriftConfig(threshold=1e9)
    drift = found_drifts(2500, 1200, 0.4, 0, no_scan)[0]
    assert drift.detector == "adwin" and 1200 < drift.position < 2200
    assert abs(drift.since - 1200) < 200 and -0.5 < drift.shift < -0.15  # some scores from before are among the later


def test_the_shift_that_adwin_finds_is_that_of_the_mean_over_the_window() -> None:
    rng, window = np.random.default_rng(0), DriftConfig().window
    innovations = [*rng.normal(0.1, 0.1, 900), *rng.normal(-0.2, 0.1, 300)]
    detector = DriftDetector("a", DriftConfig(threshold=1e9))
    found = next(d for seq, i in enumerate(innovations) if (d := detector.learn_one(seq, i, 1.0 + seq % 2)))
    weights = np.array([1.0 / (1.0 + seq % 2) for seq in range(len(innovations))])
    before, after = (
        np.average(innovations[part], weights=weights[part])
        for part in (slice(found.position + 1 - window, found.since), slice(found.since, found.position + 1))
    )
    assert 900 < found.position < 1000 and found.shift == pytest.approx(after - before)


def test_one_wild_score_is_no_alarm() -> None:
    detector = DriftDetector("a")
    for seq in range(100):
        assert detector.learn_one(seq, 0.02 * (-1) ** seq, 0.01) is None
    assert detector.learn_one(100, -1.0, 0.01) is None


def test_innovations_are_clipped_at_two_and_a_half_standard_deviations() -> None:
    detector = DriftDetector("a")
    for seq, innovation in enumerate([-9.0, 9.0, 0.4]):
        detector.learn_one(seq, innovation, 0.04)
    assert np.array(detector.rows()) == pytest.approx(np.array([(0, -0.5, 0.04), (1, 0.5, 0.04), (2, 0.4, 0.04)]))


def test_few_scores_are_no_drift_whatever_they_say() -> None:
    """Of two clear groups, the scan needs `min_after` scores of the later and twice as many of the earlier."""
    least = DriftConfig().min_after
    for before, after in ((2 * least, least - 1), (2 * least - 1, least), (1, MIN_TESTED - 2)):
        detector = DriftDetector("a")
        innovations = [0.0] * before + [-0.9] * after
        assert [detector.learn_one(seq, i, 0.01) for seq, i in enumerate(innovations)] == [None] * (before + after)


def test_enough_scores_of_a_clear_change_are_a_drift_at_once() -> None:
    least, detector = DriftConfig().min_after, DriftDetector("a")
    innovations = [0.0] * (2 * least) + [-0.9] * least
    found = [detector.learn_one(seq, i, 0.01) for seq, i in enumerate(innovations)]
    assert found[-1] is not None and found[-1].since == 2 * least and found[:-1] == [None] * (3 * least - 1)


def test_the_shift_that_the_scan_finds_is_from_a_baseline_shrunken_to_zero() -> None:
    detector = DriftDetector("a")
    found = [detector.learn_one(seq, 0.1 if seq < 60 else -0.9, 0.1) for seq in range(68)]
    assert found[-1] is not None and found[-1].since == 60
    clipped, before = -2.5 * 0.1**0.5, 0.1 * 600.0 / (600.0 + DriftConfig().baseline_precision)
    assert found[-1].shift == pytest.approx(clipped - before)


@pytest.mark.parametrize(("expected", "variance"), [(-0.5, 0.05), (0.0, 0.05), (0.5, 0.225), (0.9, 0.113), (1.5, 0.05)])
def test_an_innovations_variance_is_that_of_its_expectation_over_its_weight(expected: float, variance: float) -> None:
    detectors = DriftDetectors({"a": 500.0})
    detectors.learn_one("a", 7, expected + 0.01, 0.5, expected)
    assert np.array(detectors.state()["a"]) == pytest.approx(np.array([(7, 0.01, 2.0 * variance)]))


def test_a_restored_detector_goes_on_as_the_first_would_have() -> None:
    rng = np.random.default_rng(0)
    innovations = [*rng.normal(0.0, 0.4, 150), *rng.normal(-0.5, 0.4, 60)]
    one = DriftDetectors({"a": 500.0})
    for seq, innovation in enumerate(innovations[:154]):
        assert one.learn_one("a", seq, 0.5 + innovation, 1.0, 0.5) is None
    other = DriftDetectors({"a": 500.0}, state=one.state())
    found = [
        [d for seq in range(154, 162) if (d := detectors.learn_one("a", seq, 0.5 + innovations[seq], 1.0, 0.5))]
        for detectors in (one, other)
    ]
    assert len(found[0]) == 1 and found[0] == found[1] and abs(found[0][0].since - 150) < 10


def test_a_model_of_few_scores_is_counted_and_not_tested() -> None:
    detectors = DriftDetectors({"a": 40.0})
    for seq in range(90):
        score = 0.5 - 0.5 * (seq >= 60)
        drift = detectors.learn_one("a", seq, score, 1.0, 0.5)
        assert (drift is None) or detectors.n_scores("a") >= DriftConfig().warmup
    assert detectors.n_scores("a") == 130 and detectors.n_scores("b") == 0
    assert len(detectors.state()["a"]) == 130 - DriftConfig().warmup + 1


@pytest.mark.parametrize(("weight", "expected"), [(0.02, 0.5), (1.0, math.nan)])
def test_a_score_of_no_weight_or_without_expectation_is_counted_and_not_tested(weight: float, expected: float) -> None:
    detectors = DriftDetectors({"a": 500.0})
    assert not any(detectors.learn_one("a", seq, float(seq < 50), weight, expected) for seq in range(100))
    assert detectors.n_scores("a") == 600 and detectors.state() == {}


def test_a_found_drift_starts_a_new_detector() -> None:
    detectors = DriftDetectors({"a": 500.0})
    found = [d for seq in range(200) if (d := detectors.learn_one("a", seq, 0.5 * (seq < 100), 1.0, 0.5))]
    assert len(found) == 1 and found[0].position < 120
    assert len(detectors.state()["a"]) == 199 - found[0].position


def test_a_score_from_before_drifts_is_shifted_by_each_and_weighs_little() -> None:
    drifts = [Drift("a", 60, 50, -0.3, "scan"), Drift("b", 60, 50, 0.5, "scan"), Drift("a", 90, 80, 0.1, "adwin")]
    assert drift_adjustment("a", 80, drifts) == (0, 1.0)
    assert drift_adjustment("a", 50, drifts) == (0.1, STALE_WEIGHT)
    assert drift_adjustment("a", 49, drifts) == pytest.approx((-0.2, STALE_WEIGHT**2))
    assert drift_adjustment("c", 0, drifts) == (0, 1.0)
