"""Chat completions and routing: the hot path."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from agent.errors import ThalwegError
from serve.errors import error_response
from serve.http.schemas import ChatBody, JsonRoute, RouteBody, ServiceDep
from serve.providers.parameters import adapted
from serve.routing.calls import Call
from serve.routing.live import Routed
from serve.service import BOOTSTRAP, Service
from store.views import DecisionSummary, DecisionView

router = APIRouter(tags=["chat"], route_class=JsonRoute)

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ChatReply(BaseModel):
    """The model's answer in OpenAI's shape, as it came, with a ``thalweg`` object; of a stream the first event has it."""

    model_config = ConfigDict(extra="allow")

    thalweg: DecisionSummary


@router.post("/v1/chat/completions", response_model=ChatReply)
async def chat(service: ServiceDep, body: ChatBody, request: Request) -> Response:
    """Answer a chat: `model: "auto"` is routed, a model's name goes straight there."""
    if not body.is_auto:
        service.follower.pool_view.provider_of(body.model)
    routed = await _route(service, body, "chat")
    if body.is_auto and not service.follower.pool_view.can_call(routed.decision.model):
        routed = await _route(service, body, "chat")  # its model has left the pool meanwhile
    headers = decision_headers(routed)
    try:
        provider, model = service.follower.pool_view.provider_of(routed.decision.model)
        forwarded = {name: value for name, value in (await request.json()).items() if name != "thalweg"}
        kept = service.keeper.draw(routed, forwarded, lambda: body.route_request().requires)
        call = Call(routed, provider, model, service.decisions, service.metrics, kept)
        if body.is_auto:  # to a model that the client named, a request goes as it came
            forwarded, changes = adapted(forwarded, model.check)
            headers |= {"x-thalweg-changed": "; ".join(changes)} if changes else {}
        if body.stream:
            events = await call.stream(forwarded)
            return StreamingResponse(events, headers=headers | _STREAM_HEADERS, media_type="text/event-stream")
        return Response(await call.complete(forwarded), headers=headers, media_type="application/json")
    except ThalwegError as error:
        return error_response(error, headers)


@router.post("/v1/route", response_model=DecisionView)
async def route(service: ServiceDep, body: RouteBody) -> Response:
    """Choose a model and say why, without calling it."""
    routed = await _route(service, body, "route")
    lacking = service.follower.pool_view.unavailable_reasons
    content = DecisionView.of(routed.decision, routed.id, lacking).model_dump_json()
    return Response(content, headers=decision_headers(routed), media_type="application/json")


async def _route(service: Service, body: ChatBody, kind: Literal["chat", "route"]) -> Routed:
    session = body.thalweg.session if body.thalweg else None
    return await service.live.route(body.route_request(), kind, BOOTSTRAP, session=session, requested_model=body.model)


def decision_headers(routed: Routed) -> dict[str, str]:
    """The headers of every routed answer; the task is its id, since names may be of any script."""
    decision = routed.decision
    return {
        "x-thalweg-model": decision.model.encode("ascii", "replace").decode(),
        "x-thalweg-decision-id": routed.id,
        "x-thalweg-task": str(decision.task.id),
        "x-thalweg-snapshot": str(decision.snapshot),
    }
