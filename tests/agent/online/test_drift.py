"""The drift watch: soon where a model changed, silent where it did not."""

from __future__ import annotations

import numpy as np
import pytest

from agent.online.drift import Change, DriftConfig, DriftDetector, Innovation


def detector(
    n: int, change_at: int | None, shift: float, seed: int, config: DriftConfig = DriftConfig()
) -> list[tuple[int, Change]]:
    """Coins of 0.7 against an expectation of 0.7; from ``change_at`` on they fall by ``shift``."""
    rng, watched, found = np.random.default_rng(seed), DriftDetector(config), []
    for seq in range(n):
        chance = 0.7 - (shift if change_at is not None and seq >= change_at else 0.0)
        change = watched.learn_one(seq, Innovation(float(rng.random() < chance) - 0.7, 0.2))
        if change is not None:
            found.append((seq, change))
            watched = DriftDetector(config)
    return found


def test_a_fall_of_a_third_is_found_within_150_scores_with_its_size() -> None:
    delays = []
    for seed in range(20):
        at, change = detector(700, 400, 0.3, seed)[0]
        delays.append(at - 400)
        assert change.shift < -0.1
    assert np.median(delays) < 70 and max(delays) < 150 and min(delays) > 0


def test_steady_models_hardly_ever_alarm() -> None:
    alarms = sum(len(detector(3000, None, 0.0, seed)) for seed in range(10))
    assert alarms <= 2


def test_the_change_point_is_near_the_change() -> None:
    since = [detector(700, 400, 0.4, seed)[0][1].since for seed in range(10)]
    assert np.median(np.abs(np.array(since) - 400)) <= 10


def test_adwin_stands_behind_the_scan() -> None:
    deaf = DriftConfig(threshold=1e9)
    at, change = detector(2500, 1200, 0.4, 0, deaf)[0]
    assert change.detector == "adwin" and 1200 < at < 2200


def test_one_wild_score_proves_nothing() -> None:
    watched = DriftDetector()
    for seq in range(100):
        assert watched.learn_one(seq, Innovation(0.02 * (-1) ** seq, 0.01)) is None
    assert watched.learn_one(100, Innovation(-1.0, 0.01)) is None


@pytest.mark.parametrize("n", [0, 5, 20])
def test_few_scores_are_never_a_drift(n: int) -> None:
    assert not [c for seq in range(n) if (c := DriftDetector().learn_one(seq, Innovation(-0.9, 0.2)))]
