"""From OpenAI's body to what the router reads."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import InvalidInput
from agent.types import RouteRequest, Turn
from serve.http.requests import route_request
from serve.http.schemas import RouteBody, read

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def routed(*messages: Any, **fields: Any) -> RouteRequest:
    return route_request(read(RouteBody, {"messages": list(messages), **fields}))


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
            "candidates": ["a", "b"],
            "explore": False,
            "include_unavailable": True,
        },
    )
    assert (request.output_tokens, request.cost_quality_tradeoff, request.max_cost) == (7, 0.0, 0.5)
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
