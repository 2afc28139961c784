"""A challenger that has outgrown its champion is promoted though not proven better, but not on a handful of scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.evaluation.challenger import GROWTH, RefreshData, estimate_changes, outgrown, train_challenger
from agent.evaluation.gate import GateReport, judge
from agent.evaluation.off_policy import Value
from agent.examples import Examples
from agent.fit import fit
from agent.observations import Observation
from agent.snapshot import Snapshot
from agent.types import Encoded
from tests.agent.world import MODELS, world

UNDECIDED = judge(None, Value(0.001, 0.004, 300))


@pytest.fixture(scope="module")
def trained() -> Snapshot:
    return fit(world(60), encoder="test")


def snapshot(trained: Snapshot, n_scored: int, models: dict[str, float] | None = None) -> Snapshot:
    """One that was trained on so many scored prompts, and on so many scores of its ``models``."""
    scores = dict.fromkeys(MODELS, 100.0) if models is None else models
    meta = {**trained.meta, "n_scored": n_scored, "models": list(scores)}
    return replace(trained, meta=meta, tensors={**trained.tensors, "task_n_scores": np.array([list(scores.values())])})


def verdict(
    trained: Snapshot, champion: int, challenger: int, report: GateReport = UNDECIDED, outgrow: int = 0
) -> GateReport:
    return outgrown(report, snapshot(trained, champion), snapshot(trained, challenger), outgrow)


def test_a_promotion_by_growth_says_so(trained: Snapshot) -> None:
    found = verdict(trained, 500, 1200)
    assert found.promote and found.reason == (
        "promoted although not proven better, because it was trained on 1,200 scored prompts and the champion on 500 "
        "(difference +0.0010 +- 0.0040 over 300 prompts)"
    )
    assert verdict(trained, 500, 1200, judge(None, None)).reason.endswith(
        "(too little held-out evidence to compare them)"
    )


@pytest.mark.parametrize(
    ("champion", "challenger", "promote"),
    [
        (0, 20, False),
        (0, 29, False),
        (0, 30, True),
        (20, 49, False),
        (20, 50, True),
        (500, 749, False),
        (500, 750, True),
    ],
)
def test_growth_is_by_half_and_by_no_handful(trained: Snapshot, champion: int, challenger: int, promote: bool) -> None:
    found = verdict(trained, champion, challenger)
    assert GROWTH == 1.5 and found.promote is promote
    assert promote or found is UNDECIDED


def test_what_is_proven_either_way_stays(trained: Snapshot) -> None:
    for report in (judge(Value(-0.5, 0.01, 99), None), judge(Value(0.5, 0.01, 99), None)):
        assert verdict(trained, 100, 1000, report) is report


def test_after_a_rollback_growth_is_measured_from_what_was_rolled_back(trained: Snapshot) -> None:
    assert verdict(trained, 500, 800).promote
    assert not verdict(trained, 500, 800, outgrow=780).promote
    found = verdict(trained, 500, 1200, outgrow=780)
    assert found.promote and "the champion on 500, those rolled back or tried since on at most 780 (" in found.reason


@pytest.mark.parametrize(
    ("scores", "outgrow", "promote"), [(0, 0, False), (29, 0, False), (30, 0, True), (30, 500, False)]
)
def test_a_model_that_the_champion_does_not_know_needs_scores(
    trained: Snapshot, scores: int, outgrow: int, promote: bool
) -> None:
    champion = snapshot(trained, 500, {"a": 400.0, "b": 100.0})
    challenger = snapshot(trained, 520, {"a": 400.0, "b": 100.0, "new": float(scores)})
    found = outgrown(UNDECIDED, champion, challenger, outgrow)
    assert found.promote is promote
    assert (
        found.reason.startswith("promoted although not proven better, because it was trained on scores of new, ")
        is promote
    )


def test_twenty_scores_promote_nothing_and_sixty_do() -> None:
    """The whole way, from a champion that knows published figures alone."""
    prompts = world(60)
    unscored = replace(prompts, scores=np.full_like(prompts.scores, np.nan), prior=np.full_like(prompts.scores, 0.5))
    none = Examples((), prompts.embeddings[:0], prompts.features[:0], prompts.scores[:0], MODELS)
    champion = fit(unscored, encoder="test")
    for n, promote in ((20, False), (60, True)):
        scores = np.where(np.arange(60)[:, None] < n, prompts.scores, np.nan)
        training = replace(unscored, scores=scores)
        data = RefreshData(training, none, (), 0)
        assert train_challenger(data, champion, encoder="test", seed=0).verdict.promote is promote
    assert not train_challenger(data, champion, encoder="test", seed=0, outgrow=60).verdict.promote


def test_without_a_champion_that_can_be_compared_the_reason_says_so() -> None:
    data = RefreshData(world(60), world(60), (), 0)
    first = train_challenger(data, None, encoder="test", seed=0)
    assert (
        first.verdict.promote and first.verdict.reason == "promoted uncontested: there is no champion that can be read"
    )
    other = train_challenger(data, first.snapshot, encoder="other", seed=0).verdict
    assert other.promote and other.reason == "promoted uncontested: there is only one of another encoder (test)"


def test_how_far_two_snapshots_estimates_lie_apart_is_told_by_model(trained: Snapshot) -> None:
    """Of a row that cannot be read, nothing is told."""
    lower = world(60).scores.copy()
    lower[:, MODELS.index("chef")] *= 0.2
    challenger = fit(world(60, scores=lower), encoder="test")
    prompts = world(20, seed=5)
    rows = [
        Observation(
            seq, f"d{seq}", prompts.ids[seq], ("chef", "maths")[seq % 2], 0.5, "user", "",
            Encoded(prompts.embeddings[seq], prompts.features[seq], 9), encoder="test",
        )
        for seq in range(20)
    ]  # fmt: skip
    odd = replace(rows[0], model="poet", encoded=Encoded(np.zeros(3, np.float32), prompts.features[0], 9))
    found = estimate_changes(trained, challenger, [*rows, odd, replace(rows[1], model="cheap", encoder="another")])
    assert found.keys() == {"chef", "maths"} and found["chef"] < -0.15 and abs(found["maths"]) < 0.1
    assert estimate_changes(trained, challenger, []) == {}
