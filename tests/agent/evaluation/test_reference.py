"""Scores against reference answers: what counts as the same, what does not, and what a bad reference is told."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import InvalidInput
from agent.evaluation.reference import Reference

RIGHT: list[tuple[dict[str, Any], str]] = [
    ({"kind": "exact", "value": "Paris"}, "paris."),
    ({"kind": "exact", "value": "Paris"}, "France's capital?\n\nThe answer is **Paris**."),
    ({"kind": "exact", "value": "Paris"}, "I thought of Lyon.\n<answer>Paris</answer> is final."),
    ({"kind": "exact", "value": "x^{2}"}, r"So \boxed{x^{2}} it is"),
    ({"kind": "exact", "value": "two  words"}, "Reasoning first.\nTwo words"),
    ({"kind": "numeric", "value": 42}, "6 times 7 is 42"),
    ({"kind": "numeric", "value": 1234.5}, "The total is $1,234.50."),
    ({"kind": "numeric", "value": -0.25}, r"\boxed{-1/4}"),
    ({"kind": "numeric", "value": 1e6}, "1e6"),
    ({"kind": "numeric", "value": 3.14159, "tolerance": 0.01}, "about 3.14"),
    ({"kind": "numeric", "value": 7}, "Answer: 7 apples, since 5 + 2"),
    ({"kind": "choice", "value": "b"}, "B"),
    ({"kind": "choice", "value": "B"}, "(B)"),
    ({"kind": "choice", "value": "B"}, "A is wrong, C too.\n\n**Answer: B) the second**"),
    ({"kind": "choice", "value": "A"}, "The answer is A."),
    ({"kind": "choice", "value": "C"}, "Option C"),
    ({"kind": "json", "value": {"a": [1, 2.0], "b": None}}, '{"b": null, "a": [1.0, 2]}'),
    ({"kind": "json", "value": [True]}, "Here it is:\n```json\n[true]\n```\nDone."),
    ({"kind": "json", "value": None}, "null"),
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "exact", "value": "Paris"}, "Paris or Lyon"),
    ({"kind": "exact", "value": "Paris"}, ""),
    ({"kind": "numeric", "value": 42}, "42 is wrong, it is 43"),
    ({"kind": "numeric", "value": 42}, "forty-two"),
    ({"kind": "numeric", "value": 1}, "1/0"),
    ({"kind": "numeric", "value": 42}, "42.01"),
    ({"kind": "choice", "value": "A"}, "A big one"),
    ({"kind": "choice", "value": "B"}, "Because"),
    ({"kind": "choice", "value": "I"}, "I'm not sure"),
    ({"kind": "json", "value": 1}, "true"),
    ({"kind": "json", "value": {"a": 1}}, '{"a": 1, "b": 2}'),
    ({"kind": "json", "value": {"a": 1}}, '{"a": 1'),
    ({"kind": "json", "value": {"a": 1}}, "__import__('os').abort()"),
    ({"kind": "json", "value": [1]}, "[" * 100_000),
]


@pytest.mark.parametrize(("reference", "answer"), RIGHT)
def test_right_answers(reference: dict[str, Any], answer: str) -> None:
    assert Reference.of(reference).score(answer) == 1.0
    assert Reference.of(Reference.of(reference).as_json()) == Reference.of(reference)


@pytest.mark.parametrize(("reference", "answer"), WRONG)
def test_wrong_answers(reference: dict[str, Any], answer: str) -> None:
    assert Reference.of(reference).score(answer) == 0.0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("42", 'reference: give an object {"kind": ..., "value": ...}'),
        ({"kind": "code", "value": "1"}, "reference.kind: give one of exact, numeric, choice, json, not 'code'"),
        ({"value": "1"}, "reference.kind: give one of exact, numeric, choice, json, not None"),
        ({"kind": "numeric"}, "reference.value: give the right answer"),
        ({"kind": "numeric", "value": "42"}, "reference.value: give a finite number, not '42'"),
        ({"kind": "numeric", "value": True}, "reference.value: give a finite number, not True"),
        ({"kind": "numeric", "value": float("nan")}, "reference.value: give a finite number, not nan"),
        ({"kind": "exact", "value": " "}, "reference.value: give a text that is not empty, not ' '"),
        ({"kind": "choice", "value": "AB"}, "reference.value: give one letter, not 'AB'"),
        ({"kind": "numeric", "value": 1, "tolerance": -1}, "reference.tolerance: give a number of at least 0"),
        ({"kind": "exact", "value": "a", "tolerance": 1}, "only where kind is numeric"),
        ({"kind": "exact", "value": "a", "tolerence": 1}, "reference: unknown key 'tolerence'"),
    ],
)
def test_a_bad_reference_is_named(given: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Reference.of(given)
    assert says in error.value.message and str(error.value.param).startswith("reference")
