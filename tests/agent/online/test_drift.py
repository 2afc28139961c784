"""The drift detector finds a change soon, dates it, and hardly ever alarms without one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.observations import Drift
from agent.online.drift import STALE_WEIGHT, DriftConfig, DriftDetector, DriftDetectors, drift_adjustment, moved

MIN_TESTED = 3 * DriftConfig().min_after


def found_drifts(
    n: int, change_at: int | None, shift: float, seed: int, config: DriftConfig = DriftConfig()
) -> list[Drift]:
    """Coins of 0.7 against an estimate of 0.7; from ``change_at`` on they fall by ``shift``."""
    rng, detector, found = np.random.default_rng(seed), DriftDetector("a", config), []
    for seq in range(n):
        chance = 0.7 - (shift if change_at is not None and seq >= change_at else 0.0)
        drift = detector.learn_one(seq, float(rng.random() < chance) - 0.7, 0.2)
        if drift is not None:
            found.append(drift)
            detector = DriftDetector("a", config)
    return found


def test_a_fall_of_coins_by_a_third_is_found_within_100_scores_mostly() -> None:
    """The noise of a coin and a threshold that hardly ever alarms leave some falls to be found later."""
    drifts = [found_drifts(1100, 800, 0.3, seed)[0] for seed in range(20)]
    delays = np.array([drift.position - 800 for drift in drifts])
    assert all(drift.shift < -0.15 for drift in drifts) and delays.min() > 0
    assert np.median(delays) < 70 and np.mean(delays <= 100) >= 0.8 and delays.max() < 200


def test_a_fall_by_which_good_answers_lose_a_third_is_found_within_100_scores_mostly() -> None:
    """As `thalweg replay --degrade` lowers scores of 0 and 1: what scored 1 scores .7, what scored 0 stays."""
    found = []
    for seed in range(20):
        rng, detector = np.random.default_rng(seed), DriftDetector("a")
        scores = [float(rng.random() < 0.8) * (0.7 if n >= 800 else 1.0) for n in range(900)]
        found += [d for n, score in enumerate(scores) if (d := detector.learn_one(n, score - 0.8, 0.162))][:1]
    assert len(found) >= 16 and all(d.position > 800 for d in found)
    assert np.median([abs(d.since - 800) for d in found]) < 20


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
    assert abs(drift.since - 1200) < 300 and -0.5 < drift.shift < -0.1  # some scores from before are among the later


def test_the_shift_that_adwin_finds_is_that_of_the_mean_over_the_window() -> None:
    rng, window = np.random.default_rng(0), DriftConfig().window
    residuals = [*rng.normal(0.1, 0.1, 900), *rng.normal(-0.2, 0.1, 300)]
    detector = DriftDetector("a", DriftConfig(threshold=1e9))
    found = next(d for seq, i in enumerate(residuals) if (d := detector.learn_one(seq, i, 1.0 + seq % 2)))
    weights = np.array([1.0 / (1.0 + seq % 2) for seq in range(len(residuals))])
    before, after = (
        np.average(residuals[part], weights=weights[part])
        for part in (slice(found.position + 1 - window, found.since), slice(found.since, found.position + 1))
    )
    assert 900 < found.position < 1000 and found.shift == pytest.approx(after - before)


def test_one_wild_score_is_no_alarm() -> None:
    detector = DriftDetector("a")
    for seq in range(100):
        assert detector.learn_one(seq, 0.02 * (-1) ** seq, 0.01) is None
    assert detector.learn_one(100, -1.0, 0.01) is None


def test_adwin_reads_residuals_clipped_at_two_and_a_half_standard_deviations() -> None:
    detector = DriftDetector("a")
    for seq, residual in enumerate([-9.0, 9.0, 0.4]):
        detector.learn_one(seq, residual, 0.04)
    assert detector.adwin.total == pytest.approx(-0.5 + 0.5 + 0.4)
    assert detector.rows() == [(0, -9.0, 0.04), (1, 9.0, 0.04), (2, 0.4, 0.04)]


def test_few_scores_are_no_drift_whatever_they_say() -> None:
    """Of two clear groups, the scan needs `min_after` scores of the later and twice as many of the earlier."""
    least = DriftConfig().min_after
    for before, after in ((2 * least, least - 1), (2 * least - 1, least), (1, MIN_TESTED - 2)):
        detector = DriftDetector("a")
        residuals = [0.0] * before + [-0.9] * after
        assert [detector.learn_one(seq, i, 0.01) for seq, i in enumerate(residuals)] == [None] * (before + after)


def test_a_run_of_bad_luck_is_told_from_a_change_by_some_more_scores() -> None:
    """Eight scores as bad as five standard errors of a normal mean, and eight and four more."""
    detector = DriftDetector("a")
    residuals = [0.36 * (-1) ** seq for seq in range(300)] + [-0.65] * 12
    found = [detector.learn_one(seq, residual, 0.2) for seq, residual in enumerate(residuals)]
    assert found[:-1] == [None] * 311 and found[-1] is not None and found[-1].since >= 299


def test_enough_scores_of_a_clear_change_are_a_drift_at_once() -> None:
    least, detector = DriftConfig().min_after, DriftDetector("a")
    residuals = [0.0] * (2 * least) + [-0.9] * least
    found = [detector.learn_one(seq, i, 0.01) for seq, i in enumerate(residuals)]
    assert found[-1] is not None and found[-1].since == 2 * least and found[:-1] == [None] * (3 * least - 1)


def test_the_shift_that_the_scan_finds_is_the_difference_of_the_means() -> None:
    detector = DriftDetector("a")
    found = [detector.learn_one(seq, 0.1 if seq < 60 else -0.9, 0.1) for seq in range(68)]
    assert found[-1] is not None and found[-1].since == 60
    assert found[-1].shift == pytest.approx(-1.0)


@pytest.mark.parametrize("error", [-0.3, 0.3])
def test_a_snapshots_constant_error_is_no_drift_and_hides_none(error: float) -> None:
    rng, detector = np.random.default_rng(0), DriftDetector("a")
    steady = [detector.learn_one(seq, error + rng.normal(0.0, 0.4), 0.2) for seq in range(2000)]
    assert not any(steady)
    found = [d for seq in range(2000, 2150) if (d := detector.learn_one(seq, error + rng.normal(-0.3, 0.4), 0.2))]
    assert found[0].position < 2100 and abs(found[0].since - 2000) < 25


def test_confident_estimates_that_hardly_err_do_not_make_the_noise_of_doubtful_ones_look_small() -> None:
    """Most scores are of prompts on which the model always answers well; a run of bad luck on others is no change."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(20):
        detector = DriftDetector("a")
        doubtful = np.repeat(rng.random(100) < 0.25, 10)
        residuals = np.where(doubtful, np.where(rng.random(1000) < 0.5, 0.5, -0.5), rng.normal(0.0, 0.05, 1000))
        variances = np.where(doubtful, 0.225, 0.1)
        alarms += any(
            detector.learn_one(seq, r, v) for seq, (r, v) in enumerate(zip(residuals.tolist(), variances.tolist()))
        )
    assert alarms == 0


def test_noise_below_the_assumed_is_seen_as_such() -> None:
    """Means of several runs vary less than a coin: a fall that noise of a coin would hide is found."""
    rng, detector = np.random.default_rng(0), DriftDetector("a")
    residuals = [*rng.normal(0.0, 0.1, 300), *rng.normal(-0.12, 0.1, 60)]
    found = next(d for seq, r in enumerate(residuals) if (d := detector.learn_one(seq, float(r), 0.2)))
    assert 300 < found.position < 345 and abs(found.since - 300) < 5


@pytest.mark.parametrize("told", [True, False])
def test_a_snapshot_that_mends_an_error_of_the_last_is_no_drift(told: bool) -> None:
    rng, old = np.random.default_rng(0), DriftDetectors({"a": 500.0, "b": 500.0})
    for seq in range(200):
        assert old.learn_one("a", seq, 0.7 + rng.normal(0.0, 0.3), 1.0, 0.4) is None
        assert old.learn_one("b", seq, 0.5, 1.0, 0.5) is None
    state = moved(old.state(), {"a": 0.3} if told else {})
    new = DriftDetectors({"a": 700.0, "b": 700.0}, state=state)
    found = [d for seq in range(200, 400) if (d := new.learn_one("a", seq, 0.7 + rng.normal(0.0, 0.3), 1.0, 0.7))]
    assert bool(found) is not told and state["b"] == old.state()["b"]


@pytest.mark.parametrize(
    ("predicted", "variance"), [(-0.5, 0.05), (0.0, 0.05), (0.5, 0.225), (0.9, 0.113), (1.5, 0.05)]
)
def test_a_residuals_variance_is_that_of_its_prediction_over_its_weight(predicted: float, variance: float) -> None:
    detectors = DriftDetectors({"a": 500.0})
    detectors.learn_one("a", 7, predicted + 0.01, 0.5, predicted)
    assert np.array(detectors.state()["a"]) == pytest.approx(np.array([(7, 0.01, 2.0 * variance)]))


def test_a_restored_detector_goes_on_as_the_first_would_have() -> None:
    rng = np.random.default_rng(0)
    residuals = [*rng.normal(0.0, 0.4, 150), *rng.normal(-0.5, 0.4, 60)]
    one = DriftDetectors({"a": 500.0})
    for seq, residual in enumerate(residuals[:154]):
        assert one.learn_one("a", seq, 0.5 + residual, 1.0, 0.5) is None
    other = DriftDetectors({"a": 500.0}, state=one.state())
    found = [
        [d for seq in range(154, 162) if (d := detectors.learn_one("a", seq, 0.5 + residuals[seq], 1.0, 0.5))]
        for detectors in (one, other)
    ]
    [first], [restored] = found
    assert (first.position, first.since) == (restored.position, restored.since) and abs(first.since - 150) < 10
    assert first.shift == pytest.approx(restored.shift)


def test_a_model_of_few_scores_is_counted_and_not_tested() -> None:
    detectors = DriftDetectors({"a": 40.0})
    for seq in range(90):
        score = 0.5 - 0.5 * (seq >= 60)
        drift = detectors.learn_one("a", seq, score, 1.0, 0.5)
        assert (drift is None) or detectors.n_scores("a") >= DriftConfig().warmup
    assert detectors.n_scores("a") == 130 and detectors.n_scores("b") == 0
    assert len(detectors.state()["a"]) == 130 - DriftConfig().warmup + 1


@pytest.mark.parametrize(("weight", "predicted"), [(0.02, 0.5), (1.0, math.nan)])
def test_a_score_of_no_weight_or_without_prediction_is_counted_and_not_tested(weight: float, predicted: float) -> None:
    detectors = DriftDetectors({"a": 500.0})
    assert not any(detectors.learn_one("a", seq, float(seq < 50), weight, predicted) for seq in range(100))
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
