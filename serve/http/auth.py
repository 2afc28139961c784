"""The middleware before every route: the API key, the length of the body, and the request's count.

It is bare ASGI, so that it costs microseconds and never buffers a stream.
"""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import BodyTooLarge, Unauthorised, error_response
from serve.metrics import Metrics

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""The only paths that answer without a key: HAProxy listens on every interface."""


class Auth:
    """ASGI middleware.

    Parameters
    ----------
    app
        What it protects.
    key
        The API key, sent as a bearer token.
    max_body
        Longest request body, in bytes; a longer one is refused before it is read where its length is declared, else
        as soon as more has come in.
    metrics
        Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, key: str, max_body: int, metrics: Metrics) -> None:
        self._app = app
        self._key = key.encode()
        self._max_body = max_body
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass ``scope`` on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._check(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN_PATHS and not matches(headers.get(b"authorization"), self._key):
            refusal = Unauthorised("send the API key as `Authorization: Bearer <key>`; a key that was made at first "
                                   "start is in the file api_key in THALWEG_HOME")  # fmt: skip
            await error_response(refusal)(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            await error_response(self._too_large(int(length)))(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise self._too_large(received)
            return message

        await self._app(scope, limited, send)

    def _too_large(self, size: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body has {size:,} bytes or more, the limit is {self._max_body:,}; "
            "send less, or raise THALWEG_MAX_BODY"
        )


def matches(header: bytes | None, key: bytes) -> bool:
    """Whether an ``Authorization`` header carries ``key`` as its bearer token, in the same time whatever differs."""
    scheme, _, token = (header or b"").partition(b" ")
    return hmac.compare_digest(token.strip(), key) and scheme.lower() == b"bearer"
