"""The check of a model that joins: can it be called, and what does it take?

A call of one token says whether it can be reached at all, and how the length of an answer is limited; further ones whether it
streams, takes a temperature, calls tools, keeps to a JSON schema and sees images. A call whose answer does not show what was
asked for counts as a no: an endpoint may ignore what it does not know. Its list of models may say how long a context it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from jobs.calls.client import Answer, CallFailed, JobClient, end
from store.join_calls import JoinBudget, JoinCalls
from store.pool.file import PoolModel

_HELLO = [{"role": "user", "content": "Reply with the word ok."}]

_LIMITS: tuple[dict[str, int], ...] = ({"max_tokens": 1}, {"max_completion_tokens": 64}, {"max_tokens": 64}, {})
"""Ways to limit an answer, in the order in which they are tried; some models do not answer within one token."""

_TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Takes a note.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}

_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PQQkAAAgAsetfWiP4FgYrsKZeS0BAQEBAQEBA"
    "QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEDgsqnc8OJg6Ln3AAAAAElFTkSuQmCC"
)
"""A square of 64 x 64 pixels, red."""

_LENGTHS = ("context_length", "max_model_len", "context_window", "max_context_length", "max_input_tokens")
"""Names by which lists of models give the length of the context: of OpenRouter, vLLM, Groq, LM Studio, LiteLLM."""

T = TypeVar("T")

_LONGEST = 256
"""Most tokens of an answer of the check; what a longer one costs is not paid for."""

_GIVEN, _GIVEN_IMAGE = 100, 10_000
"""Most tokens that a request of the check counts as, without an image and with one."""


class NotMade(Exception):
    """A call was not made, since it was booked before, or is beyond the budget."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found.

    Parameters
    ----------
    failed
        Why the model cannot be used; None where it can.
    limit
        The parameter that limits an answer's length: ``max_tokens``, ``max_completion_tokens``, or None.
    streams, temperature
        Whether it streams, and takes a temperature.
    tools, json, images
        Whether it calls tools, keeps to a JSON schema, and sees images. None, of all five: not known.
    context
        Length of its context in tokens, as its endpoint lists it; None where that does not.
    """

    failed: str | None = None
    limit: str | None = None
    streams: bool | None = None
    temperature: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    images: bool | None = None
    context: int | None = None


class Check:
    """Checks one model; every call is booked, and none is made a second time.

    Parameters
    ----------
    join
        The join's id.
    model
        With an ``openai`` provider and known prices.
    """

    def __init__(self, client: JobClient, calls: JoinCalls, budget: JoinBudget, join: int, model: PoolModel) -> None:
        self._client = client
        self._calls = calls
        self._budget = budget
        self._join = join
        self._model = model

    def run(self, known: Mapping[str, Any], note: Callable[[Mapping[str, Any]], None]) -> Found:
        """Make the calls.

        Parameters
        ----------
        known
            What a run before this one has noted; its calls are not made again.
        note
            Gets what is known so far, after each step.
        """
        found = {name: known.get(name) for name in Found.__dataclass_fields__}
        if "limit" not in known:
            found["failed"], found["limit"] = self._reach()
            if found["failed"]:
                return Found(**found)
            found["context"] = _context(self._client.listed(self._model))
            note({"limit": found["limit"], "context": found["context"]})
        longer = {} if found["limit"] is None else {found["limit"]: _LONGEST}
        steps: dict[str, Callable[[Mapping[str, Any]], bool]] = {
            "streams": self._streams,
            "temperature": self._takes_temperature,
            "tools": self._calls_tools,
            "json": self._keeps_schema,
            "images": self._sees,
        }
        for name, step in steps.items():
            if name not in known:
                found[name] = _verdict(step, longer)
                note(
                    {key: found[key] for key in ("limit", "context", *steps) if key in known or found[key] is not None}
                )
        return Found(**found)

    def _reach(self) -> tuple[str | None, str | None]:
        """Why the model cannot be called, and the parameter that limits its answers."""
        why = "the join's budget does not allow a call"
        for limit in _LIMITS:
            try:
                self._chat(f"limit {orjson.dumps(limit).decode()}", limit)
                return None, next(iter(limit), None)
            except NotMade:
                continue
            except CallFailed as error:
                why = error.message
                if not error.refused:
                    break
        return why, None

    def _streams(self, longer: Mapping[str, Any]) -> bool:
        return self._booked("stream", lambda: (self._client.streams(self._model, {"messages": _HELLO, **longer}), None))

    def _takes_temperature(self, longer: Mapping[str, Any]) -> bool:
        self._chat("temperature", {**longer, "temperature": 0})
        return True

    def _calls_tools(self, longer: Mapping[str, Any]) -> bool:
        choice = {"type": "function", "function": {"name": "note"}}
        asked = {"messages": [{"role": "user", "content": "Take a note that it rains."}], "tools": [_TOOL]}
        answer = self._chat("tools", {**longer, **asked, "tool_choice": choice})
        made = answer.body["choices"][0]["message"].get("tool_calls")
        return isinstance(made, list) and any(_name(call) == "note" for call in made)

    def _keeps_schema(self, longer: Mapping[str, Any]) -> bool:
        schema = {"name": "answer", "strict": True, "schema": _SCHEMA}
        asked = {"messages": [{"role": "user", "content": "Which colour has the clear sky at noon?"}]}
        form = {"type": "json_schema", "json_schema": schema}
        answer = self._chat("json", {**longer, **asked, "response_format": form})
        try:
            found = orjson.loads(answer.text)
        except orjson.JSONDecodeError:
            return False
        return isinstance(found, dict) and isinstance(found.get("colour"), str)

    def _sees(self, longer: Mapping[str, Any]) -> bool:
        parts = [
            {"type": "text", "text": "Which colour is this square? Answer with one word."},
            {"type": "image_url", "image_url": {"url": _IMAGE}},
        ]
        asked = {**longer, "messages": [{"role": "user", "content": parts}]}
        return "red" in self._chat("images", asked, _GIVEN_IMAGE).text.lower()

    def _chat(self, subject: str, more: Mapping[str, Any], given: int = _GIVEN) -> Answer:
        def call() -> tuple[Answer, Answer]:
            answer = self._client.chat(self._model, {"messages": _HELLO, **more})
            return answer, answer

        return self._booked(subject, call, given)

    def _booked(self, subject: str, call: Callable[[], tuple[T, Answer | None]], given: int = _GIVEN) -> T:
        """What a call gives, booked before it is made; raises `NotMade` or `CallFailed`."""
        card = self._model.card
        reserved = (given * card.price_input + _LONGEST * card.price_output) / 1e6
        booked = self._calls.book(self._join, "check", subject, card.name, reserved, self._budget)
        if booked is None or booked.state != "booked":
            raise NotMade
        try:
            found, answer = call()
        except CallFailed as error:
            self._calls.failed(booked, error.message, paid=error.paid)
            raise
        end(self._calls, booked, self._model, answer)
        return found


def _verdict(step: Callable[[Mapping[str, Any]], bool], longer: Mapping[str, Any]) -> bool | None:
    """Whether a step succeeds; None where it says nothing."""
    try:
        return step(longer)
    except NotMade:
        return None
    except CallFailed as error:
        return False if error.refused else None


def _context(listed: Mapping[str, Any] | None) -> int | None:
    """Length of the context as a list of models gives it."""
    found = [listed[name] for name in _LENGTHS if name in listed] if listed is not None else []
    return next((length for length in found if isinstance(length, int) and length > 0), None)


def _name(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    return function.get("name") if isinstance(function, dict) else None
