"""Some simulated hours: retention by the simulated clock keeps rows bounded, refreshes are called, and the replica follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.refresh import seed
from tests.benchmarks.week import Hour, Week, settings_of

AN_HOUR = 36
KEPT_HOURS = 2
DAYS = 0.25


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Hour]]:
    """Six hours at 36 decisions each; every hour a retention keeps two hours of those without feedback."""
    with pytest.MonkeyPatch.context() as patch:
        few = seed.seed_prompts()[::12]
        patch.setattr(seed, "seed_prompts", lambda: few)
        yield simulated(tmp_path_factory.mktemp("home"), retention_decision_days=KEPT_HOURS / 24)


def simulated(home: Path, **changes: Any) -> list[Hour]:
    week = Week(settings_of(home, changes), days=DAYS, rate=0.01, feedback=0.25)
    try:
        return asyncio.run(week.run())
    finally:
        week.close()


def test_retention_by_the_simulated_clock_keeps_rows_bounded(hours: list[Hour]) -> None:
    last = hours[-1]
    assert last.decisions == 6 * AN_HOUR
    for hour in hours[KEPT_HOURS:]:
        unscored = hour.rows["decisions"] - hour.rows["feedback"]  # nothing is scored twice
        assert 0.6 * KEPT_HOURS * AN_HOUR <= unscored <= (KEPT_HOURS + 1) * AN_HOUR
        assert hour.rows["outcomes"] == hour.rows["decisions"] >= hour.rows["prompts"]


def test_refreshes_are_called_and_none_fails(hours: list[Hour]) -> None:
    states = hours[-1].refreshes
    assert states.get("done", 0) >= 2
    assert states.keys() <= {"done", "skipped"}
    assert hours[-1].with_weights >= 2
    assert hours[0].quality <= hours[0].best
