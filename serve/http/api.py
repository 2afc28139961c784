"""The HTTP interface as one ASGI app, independent of what serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent.errors import InvalidInput, ThalwegError
from serve.http.auth import Gate
from serve.http.errors import NotFound, answer, path
from serve.http.routes import chat, feedback, insight, jobs, models, operations, tasks
from serve.service import Service

_ABOUT = "An LLM router that keeps learning. Send the API key as `Authorization: Bearer <key>`."


def build_api(service: Service) -> FastAPI:
    """The app on top of ``service``, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(title="Thalweg", description=_ABOUT, lifespan=lifespan, redoc_url=None)
    app.state.service = service
    for part in (chat, feedback, models, tasks, insight, jobs, operations):
        app.include_router(part.router)
    app.add_exception_handler(ThalwegError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)
    app.add_middleware(Gate, key=service.key, max_body=service.settings.max_body, metrics=service.metrics)
    return app


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, ThalwegError)
    return answer(error)


async def _invalid(_: Request, error: Exception) -> Response:
    """A path or query parameter of the wrong type."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = path(*first["loc"][1:])
    return answer(InvalidInput(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}", param=where))


async def _http(request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    assert isinstance(error, HTTPException)
    said = NotFound(f"{request.method} {request.url.path}: {error.detail}; GET /docs lists the routes")
    response = answer(said, error.headers)
    response.status_code = error.status_code
    return response


async def _unforeseen(request: Request, _: Exception) -> Response:
    """A mistake of ours: Starlette logs its traceback, the client gets none."""
    return answer(ThalwegError(f"{request.method} {request.url.path} failed on our side; the replica's log says why"))
