"""Sentences on why a model was, or was not, chosen say what decided."""

from __future__ import annotations

import numpy as np
import pytest

from agent.choice.explain import explain, why_not
from agent.types import UNKNOWN_TASK, Candidate, Decision, Encoded, TaskAssignment

TASK = TaskAssignment(3, "sums", 0.8)


def candidate(
    model: str, quality: float, cost_penalty: float = 0.0, shrinkage: float = 0.0, **fields: object
) -> Candidate:
    return Candidate(
        model, quality, 0.05, 0.001, quality + shrinkage - cost_penalty, 0.1,
        shrinkage=shrinkage, cost_penalty=cost_penalty, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def decision(model: str, *candidates: Candidate) -> Decision:
    encoded = Encoded(np.zeros(2, np.float32), np.zeros(1, np.float32), 9)
    ranked = tuple(sorted(candidates, key=lambda c: -c.utility))
    return Decision(model, ranked, TASK, (), 1, 0, encoded, False, "")


def test_the_chosen_has_the_terms_of_its_utility_and_its_lead() -> None:
    best, other = candidate("a", 0.8, 0.02, -0.1), candidate("b", 0.6)
    assert explain((best, other), "a", TASK) == (
        "a is best on task 3 (sums, p=0.80): utility 0.680 = quality 0.800 (95 % ± 0.098) - 0.100 shrinkage "
        "- 0.020 for $0.001, 0.080 ahead of b"
    )
    assert explain((candidate("a", 0.8),), "a", TaskAssignment(UNKNOWN_TASK, "unknown", 0.3)) == (
        "a is best on a prompt unlike every task: utility 0.800 = quality 0.800 (95 % ± 0.098), the only candidate"
    )
    assert explain((best, other), "b", TASK).startswith("b is explored with propensity 0.100 on task 3 (sums, p=0.80)")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (candidate("b", 0.9, excluded="lacks vision"), "lacks vision"),
        (candidate("b", 0.9, shrinkage=0.05), "this request explored: its own chance was 10.0%"),
        (candidate("b", 0.9, shrinkage=-0.2), "its lead on this prompt is within what estimates err by"),
        (candidate("b", 0.9, cost_penalty=0.2), "not worth its price at this tradeoff"),
        (candidate("b", 0.75), "probably worse, though it may be as good"),
        (candidate("b", 0.5), "worse: "),
    ],
)
def test_the_others_are_told_what_decided(other: Candidate, reason: str) -> None:
    made = decision("a", candidate("a", 0.8), other)
    told = why_not(other, made)
    assert told is not None and told.startswith(reason)
    assert other.excluded or told.endswith("against a with utility 0.800 = quality 0.800 (95 % ± 0.098)")
    assert why_not(made.chosen, made) is None
