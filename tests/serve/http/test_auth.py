"""The middleware alone: who passes, how long a body may be, and what is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve.errors import BodyTooLarge
from serve.http.auth import Auth
from serve.metrics import Metrics

pytestmark = pytest.mark.anyio

KEY, LIMIT = "test-key-1234", 10


async def length(request: Request) -> PlainTextResponse:
    """Answers with the length of the body; too long a one is refused while it is read."""
    try:
        return PlainTextResponse(str(len(await request.body())))
    except BodyTooLarge as error:
        return PlainTextResponse(error.message, 413)


async def broken(request: Request) -> PlainTextResponse:
    raise RuntimeError("broken")


@asynccontextmanager
async def client(metrics: Metrics, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """Of an app with one path that answers, one that raises, and one that is open."""
    routes = [Route("/length", length, methods=["POST"]), Route("/broken", broken), Route("/healthz", length)]
    app = Auth(Starlette(routes=routes), key=KEY, max_body=LIMIT, metrics=metrics)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as opened:
        yield opened


def counted(metrics: Metrics) -> list[str]:
    """The lines of requests."""
    lines = metrics.exposition().decode().splitlines()
    return [line for line in lines if line.startswith("thalweg_requests_total{")]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(declared: bool) -> None:
    async def parts(size: int) -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b"x"

    async with client(Metrics()) as http:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
            answer = await http.post("/length", content=b"x" * size if declared else parts(size))
            assert answer.status_code == status, size
            assert status == 413 or answer.text == str(LIMIT)


async def test_without_the_key_only_health_answers_and_nothing_is_read() -> None:
    metrics = Metrics()
    async with client(metrics, key=None) as http:
        assert (await http.get("/healthz")).status_code == 200
        refused = await http.post("/length", content=b"x" * (LIMIT + 1))
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
    assert counted(metrics) == [
        'thalweg_requests_total{method="GET",route="/healthz",status="200"} 1.0',
        'thalweg_requests_total{method="POST",route="none",status="401"} 1.0',
    ]


async def test_a_route_that_raises_is_counted_as_500() -> None:
    metrics = Metrics()
    async with client(metrics) as http:
        assert (await http.get("/broken")).status_code == 500
    assert counted(metrics) == ['thalweg_requests_total{method="GET",route="/broken",status="500"} 1.0']
