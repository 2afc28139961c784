"""Feedback: a rating or a list of them; what can be used is recorded, what cannot is named."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Response
from pydantic import BaseModel, SkipValidation, ValidationError

from agent.errors import InvalidInput, UnknownDecision
from agent.feedback.reports import RaterReport, SourceReport
from serve.errors import error_response, invalid
from serve.http.schemas import (
    CompareIn,
    FeedbackIn,
    JsonRoute,
    Limit,
    Listed,
    RatingIn,
    ServiceDep,
)
from serve.service import BOOTSTRAP, Service
from store.columns import clean
from store.feedback import FeedbackEvent, Receipt
from store.judge_report import JudgeView, read_judges
from store.set_aside import SetAsideRow

router = APIRouter(tags=["feedback"], route_class=JsonRoute)

MAX_EVENTS = 1000

T = TypeVar("T")


class ReportList(Listed[T], Generic[T]):
    """What has been learned of sources or raters, up to row ``position`` of the feedback log."""

    position: int


class FeedbackResult(BaseModel):
    """What became of an event: its place in the log, or why it was refused and the field at fault."""

    index: int
    status: Literal["recorded", "revised", "duplicate", "refused"]
    seq: int | None = None
    reason: str | None = None
    param: str | None = None


class FeedbackReply(BaseModel):
    """One result an event, in their order."""

    results: list[FeedbackResult]


@router.post("/feedback", status_code=202, response_model=FeedbackReply)
@router.post("/v1/feedback", status_code=202, response_model=FeedbackReply, include_in_schema=False)
async def feedback(service: ServiceDep, body: SkipValidation[FeedbackIn | list[FeedbackIn]]) -> Any:
    """Record how good answers were; durable when this answers, learned from within a second."""
    return await _record(service, body, FeedbackIn)


@router.post("/v1/feedback/compare", status_code=202, response_model=FeedbackReply)
async def compare(service: ServiceDep, body: SkipValidation[CompareIn | list[CompareIn]]) -> Any:
    """Record which of two models' answers to the same request is better; as durable, and as soon learned from."""
    return await _record(service, body, CompareIn)


@router.get("/v1/feedback/sources")
def sources(service: ServiceDep) -> ReportList[SourceReport]:
    """Each source's calibration: a score reads ``bias + slope * quality``, a comparison ``bias + slope * difference``;
    ``noise`` and ``weight`` are relative to a clean evaluation's."""
    routing = service.live.serving.router
    return ReportList(position=routing.position, data=routing.sources())


@router.get("/v1/feedback/raters")
def raters(service: ServiceDep, limit: Limit = 50) -> ReportList[RaterReport]:
    """Each named rater's reliability, the least reliable first: ``weight`` is the probability of honesty, ``offset`` how
    far above the source they score."""
    routing = service.live.serving.router
    return ReportList(position=routing.position, data=routing.raters(limit))


@router.get("/v1/judges")
def judges(service: ServiceDep) -> ReportList[JudgeView]:
    """Each judge: how far it agrees with what answers are known to be worth, whether it favours a place or its own family,
    how often it could not be read, and what it cost. Intervals are 95 %; its offsets by model are taken off its scores."""
    routing = service.live.serving.router
    return ReportList(position=routing.position, data=read_judges(service.database, routing.raters()))


@router.get("/v1/feedback/set-aside")
def set_aside(service: ServiceDep, limit: Limit = 50) -> Listed[SetAsideRow]:
    """Rows of the log from which nothing was learned, newest first, and why: a prompt that another encoder encoded and
    whose text is not stored, or values that no estimate can take. Learning goes on after them."""
    return Listed(data=service.set_aside.list(limit=limit))


async def _record(service: Service, body: Any, kind: type[RatingIn]) -> FeedbackReply | Response:
    """Append what can be used. Of a list each event has its result; a lone event that is refused raises its error."""
    many = isinstance(body, list)
    items = body if many else [body]
    if not 1 <= len(items) <= MAX_EVENTS:
        raise InvalidInput(f"the body: give from 1 to {MAX_EVENTS:,} events, not {len(items):,}")
    answered: dict[str, str] = {}
    if kind is CompareIn:
        named = [clean(str(item.get("decision_id"))) for item in items if isinstance(item, dict)]
        answered = await asyncio.to_thread(service.decisions.models, named)
    events: dict[int, FeedbackEvent] = {}
    refused: dict[int, InvalidInput] = {}
    for i, item in enumerate(items):
        try:
            events[i] = kind.model_validate(item).event(BOOTSTRAP, answered)
        except ValidationError as error:
            refused[i] = invalid(error.errors(), kind, f"[{i}]" if many else "")
        except InvalidInput as error:
            refused[i] = error
    results = []
    for i, receipt in zip(events, await _append(service, list(events.values())), strict=True):
        if receipt.status == "refused":
            refused[i] = _refusal(receipt)
        else:
            results.append(FeedbackResult(index=i, status=receipt.status, seq=receipt.seq))
    if refused and not many:
        raise refused[0]
    results += [FeedbackResult(index=i, status="refused", reason=e.message, param=e.param) for i, e in refused.items()]
    reply = FeedbackReply(results=sorted(results, key=lambda result: result.index))
    if len(refused) < len(items):
        return reply
    nothing = InvalidInput("none of the events could be recorded; results says why, one by one")
    return error_response(nothing, **reply.model_dump())


async def _append(service: Service, events: list[FeedbackEvent]) -> list[Receipt]:
    receipts = await asyncio.wrap_future(service.feedback.append(events)) if events else []
    service.follower.wake()
    for event, receipt in zip(events, receipts, strict=True):
        service.metrics.feedback.labels(event.source, receipt.status).inc()
    return receipts


def _refusal(receipt: Receipt) -> InvalidInput:
    kind = UnknownDecision if receipt.param == "decision_id" else InvalidInput
    return kind(str(receipt.reason), param=receipt.param)
