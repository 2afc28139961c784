"""Chat completions and routing: the hot path."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from agent.errors import ThalwegError
from serve.http.errors import Json, answer
from serve.http.presenters import full, headers
from serve.http.routes.context import Context, JsonBody, documented
from serve.http.schemas import ChatBody, RouteBody, read
from serve.routing.calls import Call
from serve.service import BOOTSTRAP

router = APIRouter(tags=["chat"])

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@router.post("/v1/chat/completions", openapi_extra=documented(ChatBody))
async def chat(service: Context, raw: JsonBody) -> Response:
    """Answer a chat: `model: "auto"` is routed, a model's name goes straight there."""
    body = read(ChatBody, raw)
    if not body.is_auto:
        service.follower.pool_view.callable(body.model)
    routed = await service.live.route(body, "chat", BOOTSTRAP)
    named = headers(routed)
    try:
        provider, model = service.follower.pool_view.callable(routed.decision.model)
        call = Call(routed, provider, model, service.decisions, service.metrics)
        forwarded = {name: value for name, value in raw.items() if name != "thalweg"}
        if body.stream:
            events = await call.stream(forwarded)
            return StreamingResponse(events, headers=named | _STREAM_HEADERS, media_type="text/event-stream")
        return Response(await call.complete(forwarded), headers=named, media_type="application/json")
    except ThalwegError as error:
        return answer(error, named)


@router.post("/v1/route", openapi_extra=documented(RouteBody))
async def route(service: Context, raw: JsonBody) -> Response:
    """Choose a model and say why, without calling it."""
    routed = await service.live.route(read(RouteBody, raw), "route", BOOTSTRAP)
    return Json(full(routed), headers=headers(routed))
