"""The HTTP interface as one FastAPI app over a `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agent.errors import ThalwegError
from serve.errors import ErrorReply, NotFound, error_response, invalid
from serve.http.auth import Auth
from serve.http.routes import chat, feedback, heads, insight, models, operations
from serve.service import Service

_DESCRIPTION = "An LLM router that keeps learning. Send the API key as `Authorization: Bearer <key>`."


def build_api(service: Service) -> FastAPI:
    """The app over ``service``, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorReply} for code in ("4XX", "5XX")}
    app = FastAPI(title="Thalweg", description=_DESCRIPTION, lifespan=lifespan, redoc_url=None, responses=errors)
    app.state.service = service
    for part in (chat, feedback, models, heads, insight, operations):
        app.include_router(part.router)
    app.add_exception_handler(ThalwegError, _on_thalweg_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(Auth, key=service.key, max_body=service.settings.max_body, metrics=service.metrics)
    return app


async def _on_thalweg_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ThalwegError)
    return error_response(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """A body or parameter that does not fit its schema; the first step of a problem's path is where it was."""
    assert isinstance(error, RequestValidationError)
    field = request.scope["route"].body_field
    problems = [{**problem, "loc": problem["loc"][1:]} for problem in error.errors()]
    return error_response(invalid(problems, field and field.field_info.annotation))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}; GET /docs lists the routes"
    return error_response(NotFound(message), error.headers, error.status_code)


async def _on_bug(request: Request, _: Exception) -> Response:
    """A bug: Starlette logs its traceback, the client gets none."""
    return error_response(
        ThalwegError(f"{request.method} {request.url.path} failed on our side; the replica's log says why")
    )
