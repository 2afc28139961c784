"""Answers are judged by what their scores would tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.choice.judging import Judgeable, most_telling, second_model, value_of_score
from agent.types import Candidate


def candidate(model: str, utility: float, stderr: float, excluded: str | None = None) -> Candidate:
    return Candidate(model, utility, stderr, 0.0, utility, 0.5, {}, excluded)


def answer(key: str, stderr: float = 0.1, gap: float = 0.1, task: int = 0) -> Judgeable[str]:
    return Judgeable(key, "a", task, (candidate("a", 0.7, stderr), candidate("b", 0.7 - gap, 0.1)))


def test_uncertain_close_explored_drifting_and_complained_of_answers_tell_more() -> None:
    base = answer("base")
    more = [
        answer("unsure", stderr=0.3),
        answer("close", gap=0.02),
        replace(base, explored=True),
        replace(base, doubt=0.4),
    ]
    assert all(value_of_score(other) > value_of_score(base) > 0.0 for other in more)
    assert value_of_score(base, 3) < value_of_score(base) and value_of_score(base, 10**6) >= 0.0
    alone = Judgeable("alone", "a", 0, (candidate("a", 0.7, 0.1), candidate("b", 0.9, 0.1, "no key")))
    assert value_of_score(alone) > value_of_score(base), "nothing speaks for another, whatever it is"


def test_the_most_telling_come_first_and_those_alike_tell_less_and_less() -> None:
    many = [answer(f"same{i}", stderr=0.3) for i in range(5)]
    many += [answer(f"other{i}", stderr=0.25, task=1) for i in range(5)]
    assert [key[:-1] for key in most_telling(many, 4)] == ["same", "same", "other", "same"]
    assert [key[:-1] for key in most_telling([replace(a, task=0) for a in many], 4)] == ["same"] * 4
    assert most_telling(many, 99) and len(set(most_telling(many, 99))) == 10
    assert most_telling([], 3) == [] and most_telling([replace(answer("x"), model="gone")], 3) == []


@pytest.mark.parametrize(
    ("available", "second"), [(["a", "b", "c", "d"], "c"), (["a", "b"], "b"), (["a"], None), ([], None)]
)
def test_the_second_model_is_the_one_that_would_tell_most(available: list[str], second: str | None) -> None:
    ranked = (
        candidate("a", 0.7, 0.1),
        candidate("b", 0.4, 0.1),
        candidate("c", 0.6, 0.3),
        candidate("d", 0.69, 0.9, "rests"),
    )
    assert second_model(Judgeable("x", "a", 0, ranked), available) == second
    assert second_model(Judgeable("x", "gone", 0, ranked), available) is None
