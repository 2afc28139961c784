"""`replay` streams what it says, reveals what it says, and Thalweg learns from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cache import CachedEncoder
from jobs.replay.report import to_json
from jobs.replay.run import Replay, replay
from jobs.replay.scenario import parse
from tests.jobs.made import WordEncoder, records, write


def play(tmp_path: Path, n: int, policies: str = "thalweg,best fixed,frozen", **options: Any) -> Replay:
    """A replay of ``n`` made-up prompts; what `parse` reads goes there."""
    told = {k: options.pop(k) for k in ("join", "leave", "degrade", "noise", "feedback_rate", "delay") if k in options}
    return replay(
        [str(write(tmp_path / "stream.jsonl.gz", records(n)))],
        encoder=CachedEncoder(WordEncoder(), tmp_path / "cache"),
        scenario=parse(**told),
        policies=policies.split(","),
        **options,
    )


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return play(tmp_path_factory.mktemp("replay"), 360, warm="60", seeds=2)


def test_the_contract(warm: Replay) -> None:
    report = to_json(warm)
    json.dumps(report, allow_nan=False)
    assert (report["steps"], report["warm"], report["seeds"]) == (300, 60, 2)
    assert list(report["policies"]) == ["thalweg", "best fixed", "frozen"]
    for row in report["policies"].values():
        for key in ("mean_quality", "last_third", "regret", "cost"):
            assert set(row[key]) == {"mean", "std"}
        assert 0 <= row["mean_quality"]["mean"] <= 1
        assert row["adoption_steps"] == {}


def test_thalweg_knows_the_topics_and_one_model_does_not(warm: Replay) -> None:
    rows = to_json(warm)["policies"]
    assert rows["thalweg"]["mean_quality"]["mean"] > rows["best fixed"]["mean_quality"]["mean"] + 0.2


def test_equal_seeds_give_equal_figures(tmp_path: Path) -> None:
    one, other = (to_json(play(tmp_path, 150, warm="30", policies="thalweg")) for _ in range(2))
    del one["timing"], other["timing"]
    assert one == other
