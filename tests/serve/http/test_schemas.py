"""What clients may send, and how each mistake is named."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import InvalidInput
from serve.http.schemas import ChatBody, FeedbackIn, RouteBody, read

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": HELLO, **fields}


def test_a_chat_needs_only_messages_and_is_then_routed() -> None:
    body = read(ChatBody, chat())
    assert body.is_auto and body.thalweg is None


def test_fields_that_we_do_not_know_are_no_mistake() -> None:
    assert read(ChatBody, chat(model="m", logit_bias={"1": 2}, whatever=[1])).model == "m"


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ([], None, "give a JSON object"),
        ({}, "messages", "required"),
        (chat(messages=[]), "messages", "at least 1"),
        (chat(messages="hello"), "messages", "list"),
        (chat(messages=["hello"]), "messages[0]", "dictionary"),
        (chat(model=7), "model", "string"),
        (chat(model=""), "model", "at least 1"),
        (chat(stream="yes"), "stream", "boolean"),
        (chat(max_tokens=0), "max_tokens", "greater than or equal to 1"),
        (chat(max_tokens=1.5), "max_tokens", "integer"),
        (chat(thalweg=[]), "thalweg", "dictionary"),
        (chat(thalweg={"cost_quality_tradeoff": 1.1}), "thalweg.cost_quality_tradeoff", "less than or equal to 1"),
        (chat(thalweg={"cost_quality_tradeoff": "0.5"}), "thalweg.cost_quality_tradeoff", "number"),
        (chat(thalweg={"cost_quality_trade": 0.5}), "thalweg.cost_quality_trade", "did you mean 'cost_quality_tra"),
        (chat(thalweg={"max_cost": -1}), "thalweg.max_cost", "greater than or equal to 0"),
        (chat(thalweg={"candidates": []}), "thalweg.candidates", "at least 1"),
        (chat(thalweg={"candidates": [3]}), "thalweg.candidates[0]", "string"),
        (chat(thalweg={"explore": 1}), "thalweg.explore", "boolean"),
        (chat(thalweg={"session": ""}), "thalweg.session", "at least 1"),
        (chat(thalweg={"include_unavailable": True}), "thalweg.include_unavailable", "no such field"),
    ],
)
def test_a_mistake_names_its_field(sent: Any, param: str | None, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(ChatBody, sent)
    assert caught.value.param == param
    assert said in caught.value.message


def test_all_mistakes_are_named_not_only_the_first() -> None:
    with pytest.raises(InvalidInput) as caught:
        read(ChatBody, chat(stream=3, thalweg={"max_costs": 1, "explore": 2}))
    assert all(name in caught.value.message for name in ("stream", "thalweg.max_costs", "thalweg.explore"))


def test_only_route_may_include_the_unavailable() -> None:
    body = read(RouteBody, chat(thalweg={"include_unavailable": True}))
    assert body.thalweg is not None and body.thalweg.include_unavailable


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ({"score": 1}, "decision_id", "required"),
        ({"decision_id": "d-1"}, None, "either score"),
        ({"decision_id": "d-1", "score": 1, "thumb": "up"}, None, "either score"),
        ({"decision_id": "d-1", "score": 1.01}, "score", "less than or equal to 1"),
        ({"decision_id": "d-1", "score": -0.1}, "score", "greater than or equal to 0"),
        ({"decision_id": "d-1", "score": float("nan")}, "score", ""),
        ({"decision_id": "d-1", "score": "1"}, "score", "number"),
        ({"decision_id": "d-1", "score": True}, "score", "number"),
        ({"decision_id": "d-1", "thumb": "sideways"}, "thumb", "'up' or 'down'"),
        ({"decision_id": "d-1", "score": 1, "source": "dog"}, "source", "'judge'"),
        ({"decision_id": "d-1", "scor": 1}, "scor", "did you mean 'score'"),
        ({"decision_id": "d-1", "score": 1, "rater": None}, "rater", "string"),
    ],
)
def test_feedback_mistakes(sent: Any, param: str | None, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(FeedbackIn, sent, "[3]")
    assert caught.value.param == ("[3]" if param is None else f"[3].{param}")
    assert said in caught.value.message


@pytest.mark.parametrize(("said", "score"), [({"thumb": "up"}, 1.0), ({"thumb": "down"}, 0.0), ({"score": 0}, 0.0)])
def test_a_thumb_stands_for_a_score(said: dict[str, Any], score: float) -> None:
    assert read(FeedbackIn, {"decision_id": "d-1", **said}).verdict == score
