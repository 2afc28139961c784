"""From an OpenAI chat body to what the router reads: turns of text, needs, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.errors import InvalidInput
from agent.types import RouteRequest, Turn
from serve.http.errors import path
from serve.http.schemas import ChatBody, RouteSteering, Steering

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS = {"text": "text", "refusal": "refusal"}
_IMAGES = ("image_url", "input_image")


def route_request(body: ChatBody) -> RouteRequest:
    """What ``body`` asks of the router; raises `InvalidInput` naming the message or part at fault."""
    steering = body.thalweg or Steering()
    direct = not body.is_auto
    return RouteRequest(
        turns=turns(body.messages),
        requires=requirements(body),
        output_tokens=body.max_completion_tokens or body.max_tokens,
        cost_quality_tradeoff=steering.cost_quality_tradeoff,
        max_cost=steering.max_cost,
        candidates=(body.model,) if direct else tuple(steering.candidates) if steering.candidates else None,
        explore=steering.explore and not direct,
        include_unavailable=isinstance(steering, RouteSteering) and steering.include_unavailable,
    )


def requirements(body: ChatBody) -> frozenset[str]:
    """Capabilities that a model must have for ``body``: ``tools``, ``json``, ``vision``."""
    needs = set()
    if body.tools or body.functions:
        needs.add("tools")
    if str((body.response_format or {}).get("type", "")).startswith("json"):
        needs.add("json")
    if any(isinstance(p, Mapping) and p.get("type") in _IMAGES for m in body.messages for p in _parts(m)):
        needs.add("vision")
    return frozenset(needs)


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """The text of each message; at least one must say or show something."""
    read = tuple(_turn(message, i) for i, message in enumerate(messages))
    if not any(t.text.strip() for t in read) and not any(p["type"] not in _TEXTS for m in messages for p in _parts(m)):
        raise InvalidInput("messages: every message is empty; say something", param="messages")
    return read


def _turn(message: Mapping[str, Any], i: int) -> Turn:
    role = message.get("role")
    if role not in _ROLES:
        where = path("messages", i, "role")
        raise InvalidInput(f"{where}: give one of {', '.join(_ROLES)}, not {role!r}", param=where)
    content = message.get("content")
    if content is None and role == "assistant":
        return Turn(role, "")  # a turn that only calls tools
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        where = path("messages", i, "content")
        raise InvalidInput(f"{where}: give a string or a list of content parts", param=where)
    return Turn(role, "\n".join(filter(None, (_text(part, i, j) for j, part in enumerate(content)))))


def _text(part: Any, i: int, j: int) -> str:
    """Text of one content part; parts that hold none (images, audio, files) count for nothing."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        where = path("messages", i, "content", j)
        raise InvalidInput(f"{where}: give an object with a type, as {{'type': 'text', 'text': ...}}", param=where)
    if kind not in _TEXTS:
        return ""
    text = part.get(_TEXTS[kind])
    if not isinstance(text, str):
        where = path("messages", i, "content", j, _TEXTS[kind])
        raise InvalidInput(f"{where}: give a string", param=where)
    return text


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else ()
