"""Logged decisions become arrays, and those that cannot be used are counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.evaluation.logged import logged_decisions, snapshot_qualities
from agent.feedback.ledger import Ledger
from agent.observations import Observation
from agent.types import Encoded, LoggedAction

PROMPT = Encoded(np.ones(4, np.float32), np.ones(2, np.float32), 9)
BOTH = (LoggedAction("a", 0.9, 0.5, 0.0, 0.1), LoggedAction("b", 0.1, 0.5, 0.3, 0.2))
NAN = float("nan")


def rated(seq: int, decision: str = "d", model: str = "a", score: float = 1.0, **fields: object) -> Observation:
    row = Observation(
        seq, decision, f"p-{decision}", model, score, "user", "", PROMPT, expected=0.5, actions=BOTH, encoder="e"
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def test_what_could_not_be_chosen_has_no_propensity_and_is_never_the_greedy_choice() -> None:
    other = (LoggedAction("b", 0.5, 0.5), LoggedAction("c", 0.5, 0.5))
    found = logged_decisions([rated(1), rated(2, "e", "c", actions=other)], Ledger(), "e")
    assert found.models == ("a", "b", "c")
    assert found.propensity.tolist() == [[0.9, 0.1, 0.0], [0.0, 0.5, 0.5]]
    assert found.eligible.tolist() == [[True, True, False], [False, True, True]]
    assert found.greedy(np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.2]])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.of_chosen(found.propensity).tolist() == [0.9, 0.5]


def test_what_a_model_costs_comes_off_its_score_and_its_rank() -> None:
    found = logged_decisions([rated(1), rated(2, "e", "b")], Ledger(), "e")
    assert found.greedy(np.array([[0.5, 0.7], [0.5, 0.9]])).tolist() == [[1, 0], [0, 1]]
    assert found.net().score == pytest.approx(found.score - [0.0, 0.3])
    assert found.net().quality == pytest.approx(found.quality - [0.0, 0.3])
    assert found.cost.tolist() == [[0.1, 0.2]] * 2


def test_unknown_qualities_are_the_decisions_mean_and_unknown_costs_are_0() -> None:
    three = (LoggedAction("a", 0.8, 0.4), LoggedAction("b", 0.1, 0.6), LoggedAction("c", 0.1, NAN, NAN))
    found = logged_decisions(
        [rated(1, actions=three), rated(2, "e", actions=(three[2], replace(three[2], model="a")))], Ledger(), "e"
    )
    assert found.quality[0] == pytest.approx([0.4, 0.6, 0.5])
    assert found.quality[1].tolist() == [0.0, 0.0, 0.0]
    assert found.cost_penalty[0].tolist() == found.cost[0].tolist() == [0.0, 0.0, 0.0]


def test_decisions_without_a_choice_are_left_out_and_counted() -> None:
    rows = [
        rated(1, "named", actions=BOTH[:1]),
        rated(2, "fallen back", "c"),
        rated(3, "unknown", actions=()),
        rated(4, "greedy", actions=(LoggedAction("a", 1.0, 0.5), LoggedAction("z", 0.0, 0.5))),
        rated(5, "foreign", encoder="another"),
        rated(6, "free"),
    ]
    found = logged_decisions(rows, Ledger(), "e")
    assert found.prompts == ("p-greedy", "p-free"), "policies that agree where nothing is explored differ by nothing"
    assert found.eligible[0].tolist() == [True, False, True]
    explored = found.explored()
    assert explored.prompts == ("p-free",) and len(explored) == 1
    assert dict(explored.excluded) == {
        "of another encoder": 1, "unreadable": 0, "without weight": 0, "without a choice": 3, "unexplored": 1,
    }  # fmt: skip


def test_the_latest_score_of_each_rater_counts_and_comparisons_do_not() -> None:
    rows = [
        rated(1, score=1.0),
        rated(2, score=0.0, revises=1.0),
        rated(3, rater="ann"),
        rated(4, score=0.0, other="b"),
    ]
    found = logged_decisions(rows, Ledger(), "e")
    assert found.score.tolist() == [0.5] and found.first_position.tolist() == [1]
    late = logged_decisions([rated(2, score=0.0, revises=1.0)], Ledger(), "e")
    assert late.first_position.tolist() == [0], "its first score came before all rows that were read"


def test_the_ledger_calibrates_and_weights_scores() -> None:
    ledger = Ledger()
    for i in range(400):  # a user whose scores are 0.2 too low
        truth = 0.3 + 0.4 * (i % 2)
        ledger.learn_one(rated(i + 1, f"x{i}", score=truth - 0.2, expected=truth))
    found = logged_decisions([rated(500, score=0.5)], ledger, "e")
    assert found.score[0] == pytest.approx(0.7, abs=0.05) and 0.5 < found.score_weight[0] <= 1.0


def test_among_models_that_a_snapshot_does_not_know_the_choice_is_random() -> None:
    estimator: Any = SimpleNamespace(
        models=("b", "gone"),
        predict_out_of_fold=lambda ids, *_: np.tile([0.2, 0.6], (len(ids), 1)),
        shrink_to_mean=lambda quality: quality,
    )
    found = snapshot_qualities(
        estimator, ["p"] * 400, np.ones((400, 4), np.float32), np.ones((400, 2), np.float32), ("a", "b", "c"), seed=1
    )
    assert found[:, 1].tolist() == [0.2] * 400
    assert np.abs(found[:, [0, 2]] - 0.4).max() < 1e-5
    assert 100 < (found.argmax(axis=1) == 0).sum() < 300
