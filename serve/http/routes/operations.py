"""Health, readiness and metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from agent.errors import ThalwegError
from serve.http.errors import Json
from serve.http.routes.context import Context
from serve.metrics import CONTENT_TYPE
from serve.service import Service

router = APIRouter(tags=["operations"])

_PATIENCE_S = 2.0


@router.get("/healthz")
async def health() -> Response:
    """The process answers."""
    return Json({"status": "ok"})


@router.get("/readyz")
async def ready(service: Context) -> Response:
    """Whether requests can be routed and remembered; ``degraded`` where an older snapshot than the champion serves."""
    serving = service.follower.serving
    trouble = service.follower.unavailable_reason or await _unwritable(service)
    able = serving is not None and trouble is None
    state: dict[str, Any] = {"status": "unready", "reason": trouble or service.follower.degraded_reason}
    if able:
        state["status"] = "degraded" if service.follower.degraded_reason else "ready"
    if serving is not None:
        router = serving.router
        state |= {"snapshot": router.snapshot.version, "position": router.position}
    return Json(state, 200 if able else 503)


async def _unwritable(service: Service) -> str | None:
    """Why the database takes no writes; asks it for an empty one."""
    try:
        await asyncio.wait_for(asyncio.wrap_future(service.writer.submit(lambda _: None)), _PATIENCE_S)
    except ThalwegError as error:
        return error.message
    except TimeoutError:
        return f"the database has not taken a write for {_PATIENCE_S:g} s"
    return None


@router.get("/metrics")
async def metrics(service: Context) -> Response:
    """Prometheus' text format."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)
