"""The gate: a challenger that is no better is promoted as seldom as it says; a better one passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.evaluation.gate import GateConfig, GateReport, evaluation_difference, feedback_difference, judge, pool
from agent.evaluation.off_policy import ScoredChoices, Value

TRIALS, N, M = 300, 300, 3
BASE = np.array([0.7, 0.6, 0.5])


def trial(seed: int, challenger: int) -> GateReport:
    """A champion that takes model 0 of quality 0.7 always, against one that takes ``challenger``."""
    rng = np.random.default_rng([seed, challenger])
    scores = (rng.random((N, M)) < BASE).astype(float)
    scores[rng.random((N, M)) < 0.2] = np.nan
    first, other = np.tile(np.eye(M)[0], (N, 1)), np.tile(np.eye(M)[challenger], (N, 1))
    evaluations = evaluation_difference(first, other, scores)
    logging = np.tile([0.6, 0.2, 0.2], (N, 1))
    chosen = rng.choice(M, N, p=logging[0])
    log = ScoredChoices(chosen, (rng.random(N) < BASE[chosen]).astype(float), np.ones(N), logging)
    feedback = feedback_difference(first, other, np.full((N, M), 0.6), log)
    return judge(evaluations, feedback)


@pytest.fixture
def level(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models are equally good: the hardest case of a challenger that is not better."""
    monkeypatch.setattr(f"{__name__}.BASE", np.full(M, 0.6))


def test_a_worse_challenger_is_hardly_ever_promoted() -> None:
    assert sum(trial(seed, 1).promote for seed in range(TRIALS)) <= 0.01 * TRIALS


@pytest.mark.usefixtures("level")
def test_a_challenger_that_is_no_better_is_promoted_as_seldom_as_the_confidence_says() -> None:
    promoted = sum(trial(seed, 1).promote for seed in range(TRIALS)) / TRIALS
    assert promoted <= 0.06 + 1.5 * (0.05 * 0.95 / TRIALS) ** 0.5


def test_a_better_challenger_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BASE", np.array([0.5, 0.7, 0.5]))
    reports = [trial(seed, 1) for seed in range(50)]
    assert np.mean([r.promote for r in reports]) > 0.9
    assert "better with 95% confidence" in next(r.reason for r in reports if r.promote)


# --- the difference on evaluations


def test_routes_are_compared_prompt_by_prompt_among_the_models_with_a_score() -> None:
    nan = np.nan
    scores = np.array([[0.2, 0.9, nan], [0.5, 0.1, 0.7], [nan, nan, 1.0], [nan, nan, nan]])
    champion, challenger = np.tile([0.9, 0.5, 0.1], (4, 1)), np.tile([0.1, 0.5, 0.9], (4, 1))
    value = evaluation_difference(champion, challenger, scores)
    assert value.n == 2 and value.mean == pytest.approx(((0.9 - 0.2) + (0.7 - 0.5)) / 2)


def test_equal_routes_differ_by_nothing() -> None:
    utility, scores = np.random.default_rng(0).random((2, 40, M))
    assert evaluation_difference(utility, 3 * utility, scores) == Value(0.0, 0.0, 40)


def test_no_scored_prompt_is_no_evidence() -> None:
    value = evaluation_difference(np.ones((3, M)), np.ones((3, M)), np.full((3, M), np.nan))
    assert value.n == 0 and judge(value, None).promote is False


def test_feedback_needs_no_second_score() -> None:
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 2, 4000)
    score = (rng.random(4000) < np.array([0.3, 0.8])[chosen]).astype(float)
    log = ScoredChoices(chosen, score, np.ones(4000), np.full((4000, 2), 0.5))
    sides = [np.tile(np.eye(2)[i], (4000, 1)) for i in range(2)]
    value = feedback_difference(sides[0], sides[1], np.full((4000, 2), 0.5), log)
    assert value.mean == pytest.approx(0.5, abs=0.05)
    back = feedback_difference(sides[1], sides[0], np.full((4000, 2), 0.5), log)
    assert (back.mean, back.stderr) == pytest.approx((-value.mean, value.stderr))


def logged(propensity: NDArray[np.float64], truth: NDArray[np.float64], rng: np.random.Generator) -> ScoredChoices:
    """Choices by these (n, m) propensities, scored by coins of these (m,) chances."""
    chosen = (propensity.cumsum(axis=1) > rng.random((len(propensity), 1))).argmax(axis=1)
    score = (rng.random(len(propensity)) < truth[chosen]).astype(float)
    return ScoredChoices(chosen, score, np.ones(len(chosen)), propensity)


def test_three_wins_in_three_prove_nothing_and_ten_do() -> None:
    for wins, promote in ((3, False), (4, False), (5, True), (10, True)):
        scores = np.full((300, 2), 0.5)
        scores[:wins] = [0.0, 1.0]
        choice = np.tile([0.0, 1.0], (300, 1))
        assert judge(evaluation_difference(1.0 - choice, choice, scores), None).promote is promote


def test_what_was_hardly_ever_tried_is_no_evidence() -> None:
    """The challenger's model was never drawn where it differs, and the model of quality flatters it."""
    rng = np.random.default_rng(0)
    log = logged(np.tile([0.998, 0.002], (400, 1)), np.array([0.6, 0.1]), rng)
    sides = np.tile(np.eye(2)[0], (400, 1)), np.tile(np.eye(2)[1], (400, 1))
    flattering = np.tile([0.5, 0.9], (400, 1))
    assert feedback_difference(*sides, flattering, log).n == 0
    sides[1][:300] = sides[0][:300]
    value = feedback_difference(*sides, flattering, log)
    assert (value.n, value.mean) == (300, 0.0)


def test_the_standard_error_of_a_difference_is_right_though_a_model_was_seldom_drawn() -> None:
    """Many a sample holds no trial of the challenger's model at all; its terms alone look certain."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        log = logged(np.tile([0.99, 0.01], (100, 1)), np.array([0.6, 0.6]), rng)
        sides = np.tile(np.eye(2)[0], (100, 1)), np.tile(np.eye(2)[1], (100, 1))
        found.append(feedback_difference(*sides, np.full((100, 2), 0.6), log))
    means, stderrs = np.array([v.mean for v in found]), np.array([v.stderr for v in found])
    assert abs(means.mean()) < 3 * means.std() / 300**0.5, "no clipping, so no bias"
    assert stderrs.min() > 0.8 * means.std()
    assert np.mean([judge(None, v).promote for v in found]) <= 0.05


def test_one_rare_choice_proves_nothing() -> None:
    """A score near 1 where the champion's model was drawn against odds of 180 to 1 weighs like 80 of the others."""
    n = 800
    propensity = np.tile([0.75, 0.25], (n, 1))
    propensity[0] = [0.0055, 0.9945]
    sides = np.tile(np.eye(2)[0], (n, 1)), np.tile(np.eye(2)[1], (n, 1))
    sides[1][60:] = sides[0][60:]
    score = np.full(n, 0.5)
    score[0] = 0.95
    value = feedback_difference(
        *sides, np.full((n, 2), 0.5), ScoredChoices(np.zeros(n, int), score, np.ones(n), propensity)
    )
    assert value.mean < -0.09 and value.upper(0.95) > 0.0


def test_feedback_counts_by_its_weight() -> None:
    rng = np.random.default_rng(0)
    log = logged(np.full((400, 2), 0.5), np.array([0.2, 0.9]), rng)
    wrong = np.arange(400) < 200
    half_wrong = replace(
        log, score=np.where(wrong, 1.0 - log.score, log.score), score_weight=np.where(wrong, 0.01, 1.0)
    )
    sides = np.tile(np.eye(2)[0], (400, 1)), np.tile(np.eye(2)[1], (400, 1))
    assert feedback_difference(*sides, np.full((400, 2), 0.5), half_wrong).mean == pytest.approx(0.7, abs=0.15)
    assert (
        feedback_difference(*sides, np.full((400, 2), 0.5), replace(half_wrong, score_weight=np.ones(400))).mean < 0.2
    )


# --- the verdict


@pytest.mark.parametrize(
    ("evaluations", "feedback", "promote", "reason"),
    [
        (
            None,
            None,
            False,
            "on trial: too little held-out evidence (0 evaluated prompts and 0 decisions with feedb",
        ),
        (
            Value(0.5, 0.01, 29),
            None,
            False,
            "on trial: too little held-out evidence (29 evaluated prompts and 0 dec",
        ),
        (
            Value(0.5, 0.01, 30),
            None,
            True,
            "promoted: better with 95% confidence (difference +0.5000 +- 0.0333 over 30",
        ),
        (None, Value(0.5, 0.01, 30), True, "promoted: better with"),
        (Value(0.1, 0.01, 99), Value(0.1, 0.01, 99), True, "promoted: better with"),
        (
            Value(0.3, 0.01, 99),
            Value(-0.1, 0.02, 99),
            False,
            "rejected: worse by feedback with 95% c",
        ),
        (Value(-0.1, 0.02, 99), Value(0.3, 0.01, 99), False, "rejected: worse by evaluations with"),
        (
            Value(-0.02, 0.02, 99),
            Value(-0.02, 0.02, 99),
            False,
            "on trial: neither proven better nor worse by held-out evidence (difference -0.0200 ",
        ),
        (Value(-0.03, 0.02, 99), Value(-0.03, 0.02, 99), False, "rejected: worse by all evidence with 95% confid"),
        (Value(0.3, 0.01, 99), Value(-0.01, 0.02, 99), True, "promoted: better with"),
        (
            Value(0.01, 0.01, 99),
            None,
            False,
            "on trial: neither proven better nor worse by held-out evidence (difference +0.0100 +- 0.0101 over 99",
        ),
        (Value(0.0, 0.0, 99), None, False, "on trial: neither proven better"),
        (Value(0.5, 0.01, 99), Value(-0.9, 0.01, 29), True, "promoted: better with"),
    ],
)
def test_the_verdict(evaluations: Value | None, feedback: Value | None, promote: bool, reason: str) -> None:
    report = judge(evaluations, feedback)
    assert report.promote is promote and report.reason.startswith(reason)
    assert (report.evaluations, report.feedback) == (evaluations, feedback)
    assert (report.pooled is None) == ("too little" in reason)
    assert report.reason.startswith(
        {"promote": "promoted: ", "trial": "on trial: ", "reject": "rejected: worse by "}[report.outcome]
    )


def test_a_margin_must_be_passed_and_may_be_granted() -> None:
    value = Value(0.05, 0.01, 99)
    assert judge(value, None).promote and not judge(value, None, GateConfig(margin=0.04)).promote
    assert judge(Value(-0.01, 0.01, 99), None, GateConfig(margin=-0.05)).promote


def test_more_confidence_asks_for_more() -> None:
    value = Value(0.02, 0.01, 99)
    assert judge(value, None, GateConfig(confidence=0.95)).promote
    assert not judge(value, None, GateConfig(confidence=0.99)).promote


def test_pooling_weighs_by_precision() -> None:
    pooled = pool([Value(0.1, 0.1, 30), Value(0.4, 0.2, 70)])
    assert pooled.mean == pytest.approx((0.1 * 100 + 0.4 * 25) / 125) and pooled.n == 100
    assert pooled.stderr == pytest.approx(125**-0.5)


def test_equal_terms_do_not_silence_other_evidence() -> None:
    """Thirty prompts on which both routes agree say little beside five hundred on which they differ."""
    assert pool([Value(0.0, 0.0, 30), Value(0.1, 0.01, 500)]).mean == pytest.approx(0.1, abs=0.01)
    assert judge(Value(0.0, 0.0, 30), Value(0.1, 0.01, 500)).promote


def test_the_difference_on_evaluations_adds_one_win_and_one_loss_to_the_variance() -> None:
    scores = np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    choice = np.tile([0.0, 1.0], (4, 1))
    value = evaluation_difference(1.0 - choice, choice, scores)
    assert value.mean == 0.25 and value.stderr == pytest.approx((0.0625 + 2.0 * 1.0 / 16) ** 0.5)


def test_the_difference_on_feedback_is_as_defined() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n = 40
        log = replace(logged(rng.dirichlet(np.ones(M), n), BASE, rng), score_weight=rng.uniform(0.1, 1.0, n))
        quality = rng.random((n, M))
        before, after = (np.eye(M)[rng.integers(M, size=n)] for _ in range(2))
        used = [
            i for i in range(n) if all(before[i, a] == after[i, a] or log.propensity[i, a] >= 0.005 for a in range(M))
        ]
        noise = [q * (1.0 - q) for q in np.clip(quality, 0.1, 0.9)]
        ratio = np.mean([(log.score[i] - quality[i, log.chosen[i]]) ** 2 for i in used])
        ratio /= np.mean([noise[i][log.chosen[i]] for i in used])
        terms, expected, by_luck = [], [], []
        for i in used:
            apart, j = after[i] - before[i], log.chosen[i]
            expected.append(float(apart @ quality[i]))
            terms.append(expected[-1] + apart[j] / log.propensity[i, j] * (log.score[i] - quality[i, j]))
            by_luck.append(
                sum(apart[a] ** 2 / log.propensity[i, a] * noise[i][a] * ratio for a in range(M) if apart[a])
            )
        share = log.score_weight[used] / log.score_weight[used].sum()
        mean = sum(share * expected)
        variance = sum(s**2 * (v + (e - mean) ** 2) for s, v, e in zip(share, by_luck, expected))
        value = feedback_difference(before, after, quality, log)
        assert value.n == len(used) and value.mean == pytest.approx(sum(share * terms))
        largest = max(share**2 * np.maximum(by_luck, np.square(terms)))
        assert value.stderr == pytest.approx((variance + largest) ** 0.5)
