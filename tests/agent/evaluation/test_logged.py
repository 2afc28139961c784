"""Logged decisions become arrays, and those that tell nothing are counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.evaluation.logged import logged_decisions, snapshot_qualities
from agent.feedback.ledger import Ledger
from agent.feedback.state import latest
from agent.types import Encoded, LoggedAction, Observation

PROMPT = Encoded(np.ones(4, np.float32), np.ones(2, np.float32), 9)
BOTH = (LoggedAction("a", 0.9, 0.5, 0.0, 0.1), LoggedAction("b", 0.1, 0.5, 0.3, 0.2))
NAN = float("nan")


def said(seq: int, decision: str = "d", model: str = "a", score: float = 1.0, **fields: object) -> Observation:
    row = Observation(
        seq, decision, f"p-{decision}", model, score, "user", "", PROMPT, expected=0.5, actions=BOTH, encoder="e"
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def test_what_could_not_be_chosen_has_no_propensity_and_is_never_the_greedy_choice() -> None:
    other = (LoggedAction("b", 0.5, 0.5), LoggedAction("c", 0.5, 0.5))
    found = logged_decisions([said(1), said(2, "e", "c", actions=other)], Ledger(), "e")
    assert found.models == ("a", "b", "c")
    assert found.propensity.tolist() == [[0.9, 0.1, 0.0], [0.0, 0.5, 0.5]]
    assert found.eligible.tolist() == [[True, True, False], [False, True, True]]
    assert found.greedy(np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.2]])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.log.propensity.tolist() == [0.9, 0.5]


def test_what_a_model_costs_comes_off_its_score_and_its_rank() -> None:
    found = logged_decisions([said(1), said(2, "e", "b")], Ledger(), "e")
    assert found.greedy(np.array([[0.5, 0.7], [0.5, 0.9]])).tolist() == [[1, 0], [0, 1]]
    assert found.net.score == pytest.approx(found.score - [0.0, 0.3])
    assert found.cost.tolist() == [[0.1, 0.2]] * 2


def test_what_a_decision_did_not_know_stands_at_its_mean_and_costs_nothing() -> None:
    three = (LoggedAction("a", 0.8, 0.4), LoggedAction("b", 0.1, 0.6), LoggedAction("c", 0.1, NAN, NAN))
    found = logged_decisions(
        [said(1, actions=three), said(2, "e", actions=(three[2], replace(three[2], model="a")))], Ledger(), "e"
    )
    assert found.quality[0] == pytest.approx([0.4, 0.6, 0.5])
    assert found.quality[1].tolist() == [0.0, 0.0, 0.0]
    assert found.cost_penalty[0].tolist() == found.cost[0].tolist() == [0.0, 0.0, 0.0]


def test_what_could_not_have_gone_otherwise_is_left_out_and_counted() -> None:
    rows = [
        said(1, "named", actions=BOTH[:1]),
        said(2, "fallen back", "c"),
        said(3, "unknown", actions=()),
        said(4, "greedy", actions=(LoggedAction("a", 1.0, 0.5), LoggedAction("z", 0.0, 0.5))),
        said(5, "foreign", encoder="another"),
        said(6, "free"),
    ]
    found = logged_decisions(rows, Ledger(), "e")
    assert found.prompts == ("p-greedy", "p-free"), "policies that agree where nothing is explored differ by nothing"
    assert found.eligible[0].tolist() == [True, False, True]
    explored = found.explored()
    assert explored.prompts == ("p-free",) and len(explored.log) == 1
    assert dict(explored.excluded) == {
        "of another encoder": 1, "disbelieved": 0, "without a choice": 3, "unexplored": 1,
    }  # fmt: skip


def test_the_last_word_of_each_rater_counts_and_comparisons_do_not() -> None:
    rows = [said(1, score=1.0), said(2, score=0.0, revises=1.0), said(3, rater="ann"), said(4, score=0.0, other="b")]
    found = logged_decisions(rows, Ledger(), "e")
    assert found.score.tolist() == [0.5] and found.first.tolist() == [1]
    late = logged_decisions([said(2, score=0.0, revises=1.0)], Ledger(), "e")
    assert late.first.tolist() == [0], "its first word stood before all that was read"
    assert [o.seq for o in latest([said(1), said(2, rater="ann"), said(3)])] == [2, 3], "in the log's order"


def test_words_are_worth_what_the_ledger_makes_of_them() -> None:
    ledger = Ledger()
    for i in range(400):  # a user who takes off 0.2
        truth = 0.3 + 0.4 * (i % 2)
        ledger.learn_one(said(i + 1, f"x{i}", score=truth - 0.2, expected=truth))
    found = logged_decisions([said(500, score=0.5)], ledger, "e")
    assert found.score[0] == pytest.approx(0.7, abs=0.05) and 0.5 < found.score_weight[0] <= 1.0


def test_among_models_that_a_snapshot_does_not_know_the_choice_is_a_lottery() -> None:
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
