"""The test of a trial: its figures as defined, its verdicts, and its ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.evaluation.trial import (
    HOLD_BACK,
    TRIAL,
    TrialConfig,
    TrialEvidence,
    critical_value,
    judge_trial,
    trial_evidence,
)
from agent.feedback.ledger import Ledger
from agent.observations import Observation
from agent.types import Encoded, LoggedAction, TrialChoice


def evidence(n: int, champion: float, challenger: float, *, share: float = 1.0, seed: int = 0) -> TrialEvidence:
    """Coins between two models of these qualities, scored 0 or 1, of which nothing is known beforehand."""
    rng = np.random.default_rng(seed)
    other = rng.random(n) < share / 2
    score = (rng.random(n) < np.where(other, challenger, champion)).astype(float)
    arm = np.where(other, 1, -1).astype(np.int8)
    p, half = np.full(n, share / 2), np.full(n, 0.5)
    return TrialEvidence(score, np.ones(n), arm, 1 - p, p, half, half, n, 0.0)


def test_a_better_challenger_is_promoted_and_a_worse_rejected_with_reasons() -> None:
    better = judge_trial("trial", evidence(600, 0.4, 0.8), TRIAL)
    assert better.verdict == "promote" and better.lower > 0.0 and better.mean == pytest.approx(0.4, abs=0.12)
    assert better.reason.startswith("promoted: better on trial with 95% confidence (difference +0.")
    worse = judge_trial("trial", evidence(600, 0.8, 0.4), TRIAL)
    assert worse.verdict == "reject" and worse.reason.startswith("rejected: worse on trial with 95% confidence (")
    kept = judge_trial("hold-back", evidence(500, 0.9, 0.3, share=0.3), HOLD_BACK)
    assert kept.verdict == "reject" and kept.reason.startswith("kept: better than its predecessor with")
    back = judge_trial("hold-back", evidence(500, 0.3, 0.9, share=0.3), HOLD_BACK)
    assert back.verdict == "promote" and back.reason.startswith("rolled back: worse than its predecessor with")


def test_what_proves_nothing_goes_on_until_its_time_is_over() -> None:
    equal = evidence(1200, 0.6, 0.6, seed=1)
    first = replace(equal, **{k: getattr(equal, k)[:1000] for k in FIELDS}, decisions=1000)
    going = judge_trial("trial", first, TRIAL)
    assert going.verdict == "continue" and going.reason.startswith("on trial: nothing is proven yet (difference ")
    for over in (
        judge_trial("trial", equal, TRIAL),
        judge_trial("trial", first, TRIAL, last=True),
        judge_trial("trial", replace(first, decisions=20_000), TRIAL),
    ):
        assert over.verdict == "end"
        assert over.reason.startswith("let go: neither proven better nor worse on trial, and its time is over (")
    dear = judge_trial("trial", replace(first, expected_regret=TRIAL.max_regret), TRIAL)
    assert dear.verdict == "end" and "and its regret is used up (" in dear.reason
    held = judge_trial("hold-back", evidence(700, 0.6, 0.6, share=0.3), HOLD_BACK)
    assert held.verdict == "end" and held.reason.startswith("kept: not proven worse than its predecessor, and its time")


FIELDS = (
    "score", "score_weight", "chosen", "champion_propensity", "challenger_propensity", "champion_utility",
    "challenger_utility",
)  # fmt: skip


def test_nothing_and_little_are_no_verdict() -> None:
    none = evidence(0, 0.5, 0.5)
    report = judge_trial("trial", none, TRIAL)
    assert report.verdict == "continue" and (report.n, report.lower, report.upper) == (0, -np.inf, np.inf)
    assert judge_trial("trial", none, TRIAL, last=True).verdict == "end"
    assert judge_trial("trial", evidence(49, 0.0, 1.0), TRIAL).verdict == "continue"
    assert judge_trial("trial", evidence(50, 0.0, 1.0), TRIAL).verdict == "promote"


@pytest.mark.parametrize("last", [False, True])
def test_all_looks_together_err_as_often_as_alpha_says(last: bool) -> None:
    """Brownian motion, looked at until 1 or (`last`) until 0.5, where what is left of alpha is spent."""
    rng = np.random.default_rng(0)
    steps, until = 1000, 500 if last else 1000
    paths = rng.standard_normal((8000, until)).cumsum(axis=1) / steps**0.5
    fraction = np.arange(1, until + 1) / steps
    critical = np.array([critical_value(f, 0.05, last=False) for f in fraction])
    if last:
        critical[-1] = critical_value(fraction[-1], 0.05, last=True)
    crossed = (paths > critical * fraction**0.5).any(axis=1).mean()
    assert 0.04 < crossed <= 0.055
    assert (paths[:, -1] > 1.645 * fraction[-1] ** 0.5).mean() == pytest.approx(0.05, abs=0.01)


def test_a_report_is_as_defined() -> None:
    rng = np.random.default_rng(0)
    n = 60
    made = TrialEvidence(
        score=rng.random(n), score_weight=rng.uniform(0.2, 1.0, n), chosen=rng.integers(-1, 2, n).astype(np.int8),
        champion_propensity=rng.uniform(0.3, 0.6, n), challenger_propensity=rng.uniform(0.1, 0.4, n),
        champion_utility=rng.random(n), challenger_utility=rng.random(n), decisions=200, expected_regret=1.5,
    )  # fmt: skip
    terms, errors, weights = [], 0.0, 0.0
    for i in range(n):
        shift = errors / (TRIAL.shift_prior + weights)
        term = made.challenger_utility[i] - made.champion_utility[i]
        if made.chosen[i]:
            mine = made.challenger_utility if made.chosen[i] == 1 else made.champion_utility
            p = made.challenger_propensity if made.chosen[i] == 1 else made.champion_propensity
            error = made.score[i] - mine[i]
            term += made.chosen[i] / p[i] * (error - shift)
            errors += made.score_weight[i] * error
            weights += made.score_weight[i]
        terms.append(term)
    share = made.score_weight / made.score_weight.sum()
    report = judge_trial("trial", made, TRIAL)
    assert report.mean == pytest.approx(share @ terms)
    squares = (share * (np.array(terms) - report.mean)) ** 2
    assert report.stderr == pytest.approx((squares.sum() + squares.max()) ** 0.5)
    assert report.effective == pytest.approx(1 / (share @ share))
    radius = report.stderr * critical_value(report.effective / TRIAL.most, 0.05, last=False)
    assert (report.lower, report.upper) == pytest.approx((report.mean - radius, report.mean + radius))
    assert (report.n, report.decisions, report.expected_regret) == (n, 200, 1.5)


def test_evidence_is_read_from_the_log() -> None:
    prompt = Encoded(np.ones(4, np.float32), np.ones(2, np.float32), 9)
    choice = TrialChoice(3, "a", "b", 0.6, 0.5, 0.01)
    actions = (LoggedAction("a", 0.5, 0.7, 0.1), LoggedAction("b", 0.4, 0.5, 0.0), LoggedAction("c", 0.1, 0.5, 0.2))

    def row(seq: int, decision: str, model: str, score: float, trial: TrialChoice | None = choice) -> Observation:
        return Observation(
            seq, decision, decision, model, score, "judge", "", prompt, expected=0.5, actions=actions, trial=trial
        )

    rows = [
        row(1, "d1", "b", 0.2),
        row(2, "d2", "a", 0.9),
        row(3, "d3", "a", 1.0, None),
        row(4, "d4", "a", 1.0, replace(choice, trial=2)),
        row(5, "d5", "c", 0.4),
        replace(row(6, "d1", "b", 0.8), revises=0.2),
        replace(row(7, "d2", "a", 1.0), other="b"),
        row(8, "fallen back", "z", 1.0),
        row(9, "odd", "a", np.nan),
        row(10, "unknown", "a", 1.0, replace(choice, champion_utility=np.nan)),
        replace(row(11, "impossible", "b", 1.0), actions=(actions[0], replace(actions[1], propensity=0.0))),
        replace(row(12, "unlogged", "a", 1.0), actions=()),
    ]
    found = trial_evidence(rows, 3, Ledger(), decisions=9, expected_regret=0.4)
    scores = Ledger().mean_scores([replace(o, prompt_id=o.decision_id) for o in (rows[5], rows[1], rows[4])])
    value = [scores["d1", "b"].value, scores["d2", "a"].value - 0.1, scores["d5", "c"].value - 0.2]
    assert found.score == pytest.approx(value) and found.chosen.tolist() == [1, -1, 0]
    assert found.score_weight == pytest.approx([s.weight for s in scores.values()])
    assert found.champion_propensity.tolist() == [0.5] * 3 and found.challenger_propensity.tolist() == [0.4] * 3
    assert found.champion_utility.tolist() == [0.6] * 3 and found.challenger_utility.tolist() == [0.5] * 3
    assert (found.decisions, found.expected_regret, len(found)) == (9, 0.4, 3)
    assert len(trial_evidence([], 3, Ledger(), decisions=0, expected_regret=0.0)) == 0


def test_more_confidence_asks_for_more() -> None:
    found = evidence(700, 0.6, 0.69)
    assert judge_trial("trial", found, TrialConfig(alpha=0.25)).verdict == "promote"
    assert judge_trial("trial", found, TrialConfig(alpha=0.001)).verdict == "continue"
