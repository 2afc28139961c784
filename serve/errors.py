"""Errors on the wire: OpenAI's shape, an HTTP status, the field at fault; never a traceback.

What only the server raises extends the tree of `agent.errors`:

InvalidInput
├── MalformedJson       the body is not JSON; says where it stops being so
├── BodyTooLarge        the body is longer than `THALWEG_MAX_BODY`
├── Unauthorised        no API key, or a wrong one
└── NotFound            nothing has this id or this path
NoCandidate
└── ModelUnavailable    the model that the client named cannot be called; says what it lacks
StoreUnavailable
└── NotReady            no router is loaded yet
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import orjson
from fastapi import Response
from pydantic import BaseModel, ValidationError

from agent.errors import (
    ChampionChanged,
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

M = TypeVar("M", bound=BaseModel)


class MalformedJson(InvalidInput):
    """The body is not JSON."""

    code = "malformed_json"


class BodyTooLarge(InvalidInput):
    """The body is longer than the server takes."""

    code = "body_too_large"


class Unauthorised(InvalidInput):
    """No API key was sent, or a wrong one."""

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
    ChampionChanged: 409,
    BodyTooLarge: 413,
    InvalidInput: 422,
    ModelUnavailable: 503,
    NoCandidate: 422,
    StoreUnavailable: 503,
    UpstreamTimeout: 504,
    ThalwegError: 500,
}


def status_of(error: ThalwegError) -> int:
    """The HTTP status that stands for ``error``."""
    if isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout):
        return error.status if 400 <= error.status <= 599 else 502
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_body(error: ThalwegError) -> dict[str, Any]:
    """``error`` as OpenAI's clients expect it."""
    kind = "server_error" if status_of(error) >= 500 else "invalid_request_error"
    if isinstance(error, UpstreamError):
        kind = "upstream_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def error_response(
    error: ThalwegError, headers: Mapping[str, str] | None = None, status: int | None = None, **more: Any
) -> Response:
    """The HTTP answer to ``error``; an upstream's own error body is passed on where it has OpenAI's shape.

    Parameters
    ----------
    headers
        Sent beside those that the error itself needs.
    status
        Another status than `status_of` gives.
    more
        Members of the body beside ``error``.
    """
    sent = dict(headers or {})
    if isinstance(error, ModelUnavailable):
        sent["x-should-retry"] = "false"  # OpenAI's clients retry a 503 otherwise
    if isinstance(error, Unauthorised):
        sent["www-authenticate"] = "Bearer"
    own = isinstance(error, UpstreamError) and _has_shape(error.body)
    body = error.body if isinstance(error, UpstreamError) and own else orjson.dumps(error_body(error) | more)
    return Response(body, status or status_of(error), sent, media_type="application/json")


def _has_shape(body: bytes) -> bool:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


class ErrorDetail(BaseModel):
    """OpenAI's shape of an error; ``param`` is the path of the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """The answer to a request that failed."""

    error: ErrorDetail


def validated(kind: type[M], value: Any, at: str = "") -> M:
    """``value`` as a ``kind``; raises `InvalidInput` that names the fields at fault under the path ``at``."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise invalid(error.errors(), kind, at) from error


def invalid(problems: Sequence[Mapping[str, Any]], kind: Any = None, at: str = "") -> InvalidInput:
    """pydantic's complaints as one `InvalidInput` that names each field.

    Parameters
    ----------
    problems
        As ``ValidationError.errors()`` gives them.
    kind
        The model that was validated: its fields are what an unknown field is compared with.
    at
        Path of the object that was validated, such as ``[3]``; it is put before each field.
    """
    found: list[tuple[str, str]] = []
    for problem in problems:
        where, message = path(at, *problem["loc"]), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "no such field" + did_you_mean(str(problem["loc"][-1]), _field_names(kind))
        elif not problem["loc"] and problem["type"] != "value_error":
            where, message = where or "the body", "give a JSON object"
        found.append((where, message[:1].lower() + message[1:]))
    param = found[0][0].removeprefix("the body")
    return InvalidInput(
        "; ".join(f"{where}: {message}" if where else message for where, message in found), param=param or None
    )


def path(*steps: str | int) -> str:
    """A field's path as the caller would write it: ``path("messages", 0, "content")`` is ``messages[0].content``."""
    out = ""
    for step in steps:
        if isinstance(step, int):
            out += f"[{step}]"
        elif step:
            out += f".{step}" if out else step
    return out


def _field_names(kind: Any) -> Iterable[str]:
    """Names of a model's fields and of those of the models in them."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return
    for name, field in kind.model_fields.items():
        yield name
        for inner in (field.annotation, *get_args(field.annotation)):
            yield from _field_names(inner)
