"""What clients may send, how each mistake is named, and what the router is asked."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import InvalidInput
from agent.types import RouteRequest, Turn
from serve.errors import MalformedJson, validated
from serve.http.schemas import ChatBody, CompareIn, FeedbackIn, RouteBody, parse_json
from store.feedback import FeedbackEvent

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": HELLO, **fields}


def test_a_chat_needs_only_messages_and_is_then_routed() -> None:
    body = validated(ChatBody, chat())
    assert body.is_auto and body.thalweg is None


def test_fields_that_we_do_not_know_are_no_mistake() -> None:
    assert validated(ChatBody, chat(model="m", logit_bias={"1": 2}, whatever=[1])).model == "m"


@pytest.mark.parametrize(
    ("sent", "param", "message"),
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
        (chat(thalweg={"deadline_s": 0}), "thalweg.deadline_s", "greater than 0"),
        (chat(thalweg={"candidates": []}), "thalweg.candidates", "at least 1"),
        (chat(thalweg={"candidates": [3]}), "thalweg.candidates[0]", "string"),
        (chat(thalweg={"explore": 1}), "thalweg.explore", "boolean"),
        (chat(thalweg={"session": ""}), "thalweg.session", "at least 1"),
        (chat(thalweg={"include_unavailable": True}), "thalweg.include_unavailable", "no such field"),
    ],
)
def test_a_mistake_names_its_field(sent: Any, param: str | None, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validated(ChatBody, sent)
    assert caught.value.param == param
    assert message in caught.value.message


def test_all_mistakes_are_named_not_only_the_first() -> None:
    with pytest.raises(InvalidInput) as caught:
        validated(ChatBody, chat(stream=3, thalweg={"max_costs": 1, "explore": 2}))
    assert all(name in caught.value.message for name in ("stream", "thalweg.max_costs", "thalweg.explore"))


def test_only_route_may_include_the_unavailable() -> None:
    body = validated(RouteBody, chat(thalweg={"include_unavailable": True}))
    assert body.thalweg is not None and body.thalweg.include_unavailable


@pytest.mark.parametrize(
    ("sent", "param", "message"),
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
def test_feedback_mistakes(sent: Any, param: str | None, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validated(FeedbackIn, sent, "[3]")
    assert caught.value.param == ("[3]" if param is None else f"[3].{param}")
    assert message in caught.value.message


@pytest.mark.parametrize(("rating", "score"), [({"thumb": "up"}, 1.0), ({"thumb": "down"}, 0.0), ({"score": 0}, 0.0)])
def test_a_thumb_stands_for_a_score(rating: dict[str, Any], score: float) -> None:
    assert validated(FeedbackIn, {"decision_id": "d-1", **rating}).event("key", {}).score == score


def test_an_event_has_all_that_was_sent_and_the_name_of_the_api_key() -> None:
    common: dict[str, Any] = {
        "decision_id": "d-1",
        "source": "judge",
        "rater": "ann",
        "comment": "so",
        "idempotency_key": "k",
    }
    score = validated(FeedbackIn, common | {"thumb": "up"}).event("bootstrap", {})
    assert score == FeedbackEvent(**common, score=1.0, thumb="up", key="bootstrap")
    comparison = validated(CompareIn, common | {"other": "b", "preferred": "tie"}).event("bootstrap", {"d-1": "a"})
    assert comparison == FeedbackEvent(**common, score=0.5, other="b", key="bootstrap")


@pytest.mark.parametrize(
    ("preferred", "answered", "score"),
    [
        ("decision", "a", 1.0),
        ("a", "a", 1.0),
        ("other", "a", 0.0),
        ("b", "a", 0.0),
        ("tie", "a", 0.5),
        ("x", None, 1.0),
    ],
)
def test_a_preference_stands_for_a_score(preferred: str, answered: str | None, score: float) -> None:
    body = validated(CompareIn, {"decision_id": "d-1", "other": "b", "preferred": preferred})
    assert body.event("key", {"d-1": answered} if answered else {}).score == score


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def routed(*messages: Any, **fields: Any) -> RouteRequest:
    return validated(RouteBody, {"messages": list(messages), **fields}).route_request()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_text_is_read_from_strings_and_parts() -> None:
    request = routed(
        {"role": "system", "content": "Be brief."},
        user([{"type": "text", "text": "What is"}, IMAGE, {"type": "text", "text": "this?"}]),
    )
    assert request.turns == (Turn("system", "Be brief."), Turn("user", "What is\nthis?"))


def test_a_tool_loop_is_read() -> None:
    request = routed(
        user("weather?"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    )
    assert [t.text for t in request.turns] == ["weather?", "", "rain"]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [{"type": "function"}]}, {"tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {"json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json"}),
    ],
)
def test_needs_follow_from_the_request(fields: dict[str, Any], needs: set[str]) -> None:
    assert routed(user("hi"), **fields).requires == needs


def test_an_image_needs_vision_and_may_stand_alone() -> None:
    assert routed(user([IMAGE])).requires == {"vision"}


def test_steering_is_passed_on() -> None:
    request = routed(
        user("hi"),
        max_tokens=9,
        max_completion_tokens=7,
        thalweg={
            "cost_quality_tradeoff": 0,
            "max_cost": 0.5,
            "deadline_s": 2.5,
            "candidates": ["a", "b"],
            "explore": False,
            "include_unavailable": True,
        },
    )
    assert (request.output_tokens, request.cost_quality_tradeoff, request.max_cost) == (7, 0.0, 0.5)
    assert request.deadline_s == 2.5
    assert request.candidates == ("a", "b")
    assert not request.explore and request.include_unavailable


def test_a_model_by_name_is_the_only_candidate_and_nothing_is_explored() -> None:
    request = routed(user("hi"), model="vendor/m", thalweg={"candidates": ["a"]})
    assert request.candidates == ("vendor/m",) and not request.explore


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "hi"}, "messages[0].role"),
        ({"role": "wizard", "content": "hi"}, "messages[0].role"),
        ({"role": ["user"], "content": "hi"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        (user(None), "messages[0].content"),
        (user(7), "messages[0].content"),
        (user(["hi"]), "messages[0].content[0]"),
        (user([{"text": "hi"}]), "messages[0].content[0]"),
        (user([{"type": "text"}]), "messages[0].content[0].text"),
        (user([{"type": "text", "text": 5}]), "messages[0].content[0].text"),
        (user(""), "messages"),
        (user("  \n"), "messages"),
        (user([]), "messages"),
        (user([{"type": "text", "text": ""}]), "messages"),
    ],
)
def test_a_bad_message_is_named(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        routed(message)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b'{"a": NaN}', "line 1, column 7"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_malformed_json_says_where(body: bytes, message: str) -> None:
    with pytest.raises(MalformedJson, match=message):
        parse_json(body)
