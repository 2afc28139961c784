"""OpenAI's chat messages as the turns of text that router and local model read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.errors import InvalidInput
from agent.types import Turn
from serve.errors import path

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS = {"text": "text", "refusal": "refusal"}
_IMAGES = ("image_url", "input_image")


def turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """The text of each message; content parts without text (images, audio, files) count for nothing.

    Raises
    ------
    InvalidInput
        Where a message or part is not of OpenAI's shape, or no message holds any content; ``param`` is its path.
    """
    found = tuple(_turn(message, i) for i, message in enumerate(messages))
    if not any(t.text.strip() for t in found) and not any(p["type"] not in _TEXTS for m in messages for p in _parts(m)):
        raise InvalidInput("messages: every message is empty; give at least one some text", param="messages")
    return found


def has_image(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any content part is an image."""
    return any(isinstance(part, Mapping) and part.get("type") in _IMAGES for m in messages for part in _parts(m))


def _turn(message: Mapping[str, Any], i: int) -> Turn:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise _invalid(f"give one of {', '.join(_ROLES)}, not {role!r}", i, "role")
    if content is None and role == "assistant":
        return Turn(role, "")  # a turn that only calls tools
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise _invalid("give a string or a list of content parts", i, "content")
    return Turn(role, "\n".join(filter(None, (_text(part, i, j) for j, part in enumerate(content)))))


def _text(part: Any, i: int, j: int) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        raise _invalid("give an object with a type, as {'type': 'text', 'text': ...}", i, "content", j)
    if kind not in _TEXTS:
        return ""
    text = part.get(_TEXTS[kind])
    if not isinstance(text, str):
        raise _invalid("give a string", i, "content", j, _TEXTS[kind])
    return text


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else ()


def _invalid(message: str, *steps: str | int) -> InvalidInput:
    where = path("messages", *steps)
    return InvalidInput(f"{where}: {message}", param=where)
