"""Errors on the wire: OpenAI's shape, the right status, the field at fault; never a traceback.

The leaves that only HTTP knows hang on the tree of `agent.errors`:

InvalidInput
├── MalformedJson       the body is not JSON; says where it stops being so
├── BodyTooLarge        the body is longer than `THALWEG_MAX_BODY`
├── Unauthorised        no key, or a wrong one
└── NotFound            nothing has this id or this path
NoCandidate
└── ModelUnavailable    the model that the client named cannot be called; says what is missing
StoreUnavailable
└── NotReady            no router is loaded yet
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from fastapi import Response
from pydantic import ValidationError

from agent.errors import (
    InvalidInput,
    NoCandidate,
    SnapshotCorrupt,
    StoreUnavailable,
    ThalwegError,
    UnknownDecision,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
    did_you_mean,
)


class MalformedJson(InvalidInput):
    """The body is not JSON."""

    code = "malformed_json"


class BodyTooLarge(InvalidInput):
    """The body is longer than the server takes."""

    code = "body_too_large"


class Unauthorised(InvalidInput):
    """No key was sent, or a wrong one."""

    code = "invalid_api_key"


class NotFound(InvalidInput):
    """Nothing has this id, or this path."""

    code = "not_found"


class ModelUnavailable(NoCandidate):
    """The model that the client named cannot be called now."""

    code = "model_unavailable"


class NotReady(StoreUnavailable):
    """No router is loaded yet."""

    code = "not_ready"


_STATUS: dict[type[ThalwegError], int] = {
    MalformedJson: 400,
    Unauthorised: 401,
    NotFound: 404,
    UnknownModel: 404,
    UnknownDecision: 404,
    SnapshotCorrupt: 409,
    BodyTooLarge: 413,
    InvalidInput: 422,
    ModelUnavailable: 503,
    NoCandidate: 422,
    StoreUnavailable: 503,
    UpstreamTimeout: 504,
    ThalwegError: 500,
}

_NO_RETRY = {"x-should-retry": "false"}
"""Tells the OpenAI clients not to try again what cannot succeed."""


class Json(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes of ``content``; keys may be numbers, NaN becomes null."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def status_of(error: ThalwegError) -> int:
    """The HTTP status that tells a client of ``error``."""
    if isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout):
        return error.status if 400 <= error.status <= 599 else 502
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def shape(error: ThalwegError) -> dict[str, Any]:
    """``error`` as OpenAI's clients expect it."""
    status = status_of(error)
    kind = "upstream_error" if isinstance(error, UpstreamError) else "invalid_request_error"
    if status >= 500 and kind != "upstream_error":
        kind = "server_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def answer(error: ThalwegError, headers: Mapping[str, str] | None = None) -> Response:
    """The whole HTTP answer to ``error``; an upstream's own error body is passed on where it has OpenAI's shape."""
    sent = dict(headers or {})
    if isinstance(error, ModelUnavailable):
        sent |= _NO_RETRY
    if isinstance(error, Unauthorised):
        sent["www-authenticate"] = "Bearer"
    status = status_of(error)
    if isinstance(error, UpstreamError) and _has_shape(error.body):
        return Response(error.body, status, sent, media_type="application/json")
    return Json(shape(error), status, sent)


def _has_shape(body: bytes) -> bool:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def parse_json(body: bytes) -> Any:
    """Read JSON; raises `MalformedJson` that says where it went wrong."""
    if not body.strip():
        raise MalformedJson("the body is empty; send JSON")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error.msg.partition(': line')[0]} "
                            f"(line {error.lineno}, column {error.colno})") from error  # fmt: skip


def invalid(error: ValidationError, known: Iterable[str] = (), at: str = "") -> InvalidInput:
    """Translate pydantic's complaints into one `InvalidInput` that names each field.

    Parameters
    ----------
    error
        What pydantic said.
    known
        The fields there are, for "did you mean".
    at
        Path of the object that was validated (``"thalweg"``), put before each field.
    """
    problems: list[tuple[str, str]] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=True):
        where = path(at, *problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            said = "no such field" + did_you_mean(str(problem["loc"][-1]), known)
        problems.append((where, said[:1].lower() + said[1:]))
    return InvalidInput("; ".join(f"{w}: {s}" if w else s for w, s in problems), param=problems[0][0] or None)


def path(*steps: str | int) -> str:
    """A field's path as the caller would write it: ``path("messages", 0, "content")`` is ``messages[0].content``."""
    out = ""
    for step in steps:
        if isinstance(step, int):
            out += f"[{step}]"
        elif step:
            out += f".{step}" if out else step
    return out
