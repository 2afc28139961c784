"""Constructed judges are found out: harsh, partial to their family or to a place, or without any judgement."""

from __future__ import annotations

import numpy as np
import pytest

from agent.evaluation.agreement import BothOrders, Figure, JudgedAnswer, agreement


def judged(
    n: int = 200, harsh: float = 0.0, own: float = 0.0, noise: float = 0.1, blind: bool = False
) -> list[JudgedAnswer]:
    """Two answers to each of ``n`` prompts, one of them of the judge's family."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(2 * n):
        truth = float(rng.choice([0.3, 0.7]))
        seen = 0.5 if blind else truth
        score = seen - harsh + own * (i % 2) + noise * float(rng.standard_normal())
        out.append(JudgedAnswer(f"p{i // 2}", score, truth, bool(i % 2)))
    return out


def test_a_fair_judge_has_no_findings_and_a_blind_one_has() -> None:
    fair = agreement(judged())
    assert fair.findings == [] and fair.correlation and fair.correlation.value > 0.85
    assert fair.pairwise and fair.pairwise.low and fair.pairwise.low > 0.9 and 60 < fair.pairwise.n < 140
    blind = agreement(judged(blind=True))
    assert blind.correlation and not blind.correlation.is_sure
    assert blind.findings == ["It may find the better of two answers no more often than a coin does."]


def test_a_harsh_judge_and_one_that_flatters_its_own_family_are_told_apart() -> None:
    harsh = agreement(judged(harsh=0.2))
    assert harsh.findings == ["It is harsh by 0.20."] and harsh.own_family and not harsh.own_family.is_sure
    flatters = agreement(judged(own=0.2))
    assert flatters.own_family is not None and flatters.own_family.value == pytest.approx(0.2, abs=0.03)
    assert flatters.own_family.low and flatters.own_family.low > 0.15
    assert [line.rsplit(" ", 1)[0] for line in flatters.findings] == [
        "It is generous by",
        "It flatters its own family by",
    ]


def test_a_liking_for_a_place_is_measured_apart_from_the_truth() -> None:
    rng = np.random.default_rng(0)
    likes = [BothOrders(0.1 + 0.05 * float(rng.standard_normal()), bool(rng.random() < 0.8)) for _ in range(60)]
    found = agreement([], likes)
    assert found.findings == ["It favours the first place by 0.10; both orders are averaged."]
    assert found.same_order and found.same_order.low and 0.5 < found.same_order.low < found.same_order.value < 0.95
    assert (found.correlation, found.bias, found.pairwise, found.own_family) == (None, None, None, None)
    fair = agreement([], [BothOrders(0.0, True)] * 3)
    assert fair.position == Figure(0.0, 0.0, 0.0, 3) and fair.findings == []


def test_few_answers_have_no_interval() -> None:
    one = agreement([JudgedAnswer("p", 0.5, 0.7, True)])
    assert one.bias and one.bias.value == pytest.approx(-0.2) and one.bias.low is None and one.findings == []
    three = agreement([JudgedAnswer("p", x, x, i == 0) for i, x in enumerate((0.1, 0.5, 0.9))])
    assert three.correlation and three.correlation.value == pytest.approx(1.0) and three.correlation.high is None
    assert three.own_family and three.own_family.low is None and three.pairwise and three.pairwise.value == 1.0
    tied = agreement([JudgedAnswer("p", 0.5, 0.1, False), JudgedAnswer("p", 0.5, 0.9, False)])
    assert tied.pairwise and tied.pairwise.value == 0.5 and tied.correlation is None
