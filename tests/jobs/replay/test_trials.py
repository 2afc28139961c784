"""Thalweg in a replay tries what the gate leaves undecided, and holds back what it promoted, as a server does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from agent.evaluation.challenger import Challenger, RefreshData, train_challenger
from agent.evaluation.gate import GateReport, Outcome
from agent.evaluation.trial import TrialConfig
from jobs.replay import thalweg
from jobs.replay.data import load
from jobs.replay.harness import run
from jobs.replay.policy import PolicyChoice, Prompt, Start
from jobs.replay.scenario import Scenario
from jobs.replay.stream import Stream
from jobs.replay.thalweg import Thalweg
from store.encoders.cache import CachedEncoder
from tests.jobs.made import WordEncoder, records, write


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    files = [str(write(tmp_path / "stream.jsonl", records(120)))]
    data = load(files, encoder=CachedEncoder(WordEncoder(), tmp_path / "cache"), scenario=Scenario(), warm="40")
    return Stream(data, Scenario(), 0)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One refresh comes soon, and tests end after few scores."""
    due = iter(["due"])
    monkeypatch.setattr(thalweg, "refresh_reason", lambda signals: next(due, None) if signals.feedback >= 20 else None)
    for name in ("TRIAL", "HOLD_BACK"):
        monkeypatch.setattr(thalweg, name, TrialConfig(least=10, most=40))


def judged(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, *, wrong: bool, wrong_first: bool = False) -> None:
    """Every challenger gets this verdict, and learned the opposite of what was scored where it is to be ``wrong``; so did the
    first champion where that is to be."""

    def train(data: RefreshData, champion: Any, **options: Any) -> Challenger:
        first = champion is None
        scores = 1.0 - data.training.scores if (wrong_first if first else wrong) else data.training.scores
        data = replace(data, training=replace(data.training, scores=scores), carried=None)
        found = train_challenger(data, champion, **options)
        if first:
            return found
        return Challenger(found.snapshot, GateReport(outcome, "as the test says", None, None, None))

    assert outcome in get_args(Outcome)
    monkeypatch.setattr(thalweg, "train_challenger", train)


class Watched(Thalweg):
    """Keeps its choices."""

    def __init__(self, start: Start) -> None:
        self.choices: list[PolicyChoice] = []
        super().__init__(start)

    def choose(self, prompt: Prompt, allowed: Any) -> PolicyChoice:
        self.choices.append(super().choose(prompt, allowed))
        return self.choices[-1]


def events(stream: Stream) -> tuple[list[str], Watched]:
    policies: list[Watched] = []

    def make(start: Start) -> Watched:
        policies.append(Watched(start))
        return policies[-1]

    trace = run(stream, make)
    return [event.kind for _, event in trace.events], policies[0]


def test_a_wrong_challenger_is_rejected_on_trial(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, "trial", wrong=True)
    found, policy = events(stream)
    assert found == ["on trial", "rejected"]
    tried = [c for c in policy.choices if c.trial is not None]
    assert len(tried) >= 10
    for choice in tried:
        propensity = {c.model: c.propensity for c in choice.candidates if c.excluded is None}
        assert choice.trial is not None and sum(propensity.values()) == pytest.approx(1.0)
        assert propensity[choice.trial.champion] == propensity[choice.trial.challenger] == 0.5
    assert np.mean([c.model == c.trial.champion for c in tried if c.trial]) == pytest.approx(0.5, abs=0.3)
    assert all(c.trial is None for c in policy.choices[-5:])


def test_a_challenger_that_wins_its_trial_is_held_back(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, "trial", wrong=False, wrong_first=True)
    found, policy = events(stream)
    assert found[:3] == ["on trial", "promoted", "held back"] and found[3:] in ([], ["kept"])
    assert policy.events[1].detail.startswith("promoted: better on trial with 95% confidence")
    assert policy.events[2].detail == "against snapshot 1"


def test_a_wrong_champion_is_demoted_by_its_hold_back(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, "promote", wrong=True)
    found, policy = events(stream)
    assert found == ["promoted", "held back", "demoted"]
    assert policy.events[2].detail.startswith("rolled back: worse than its predecessor with 95% confidence")
