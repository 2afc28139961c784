"""Feedback: one word or a list of them; what is good is taken, what is not is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from fastapi import APIRouter, Response
from pydantic import BaseModel

from agent.errors import InvalidInput, UnknownDecision
from serve.http.errors import Json, shape
from serve.http.routes.context import Context, JsonBody, documented
from serve.http.schemas import CompareIn, FeedbackIn, read
from serve.service import BOOTSTRAP, Service
from store.feedback import FeedbackEvent, Receipt

router = APIRouter(tags=["feedback"])

LONGEST = 1000

Said = TypeVar("Said", bound=BaseModel)
Refusable = FeedbackEvent | InvalidInput
"""An event, or why there is none."""


@router.post("/feedback", status_code=202, openapi_extra=documented(FeedbackIn, many=True))
@router.post("/v1/feedback", status_code=202, include_in_schema=False)
async def feedback(service: Context, raw: JsonBody) -> Response:
    """Record how good answers were; durable when this answers, learned from within a second."""
    return await _answer(service, raw, [_score(item) for item in _validated(FeedbackIn, raw)])


@router.post("/v1/feedback/compare", status_code=202, openapi_extra=documented(CompareIn, many=True))
async def compare(service: Context, raw: JsonBody) -> Response:
    """Record which of two models' answers to the same request is better; as durable, and as soon learned from."""
    said = _validated(CompareIn, raw)
    named = [item.decision_id for item in said if isinstance(item, CompareIn) and item.names_a_model]
    answered = await asyncio.to_thread(service.decisions.models, named)
    return await _answer(service, raw, [_comparison(item, answered) for item in said])


@router.get("/v1/feedback/sources")
def sources(service: Context) -> Response:
    """What is known of each source, by kind of word: a score reads ``bias + slope * quality``, a comparison
    ``bias + slope * difference``; ``noise`` and ``weight`` stand beside a clean evaluation's."""
    routing = service.live.serving.router
    return Json({"object": "list", "position": routing.position, "data": [asdict(r) for r in routing.ledger.sources()]})


@router.get("/v1/feedback/raters")
def raters(service: Context, limit: int = 50) -> Response:
    """What is known of each named rater, the least reliable first: ``weight`` is the probability of honesty, ``level``
    how far above the source they score."""
    routing = service.live.serving.router
    found = routing.ledger.raters(max(1, min(limit, LONGEST)))
    return Json({"object": "list", "position": routing.position, "data": [asdict(r) for r in found]})


def _validated(kind: type[Said], raw: Any) -> list[Said | InvalidInput]:
    """Every word of a body as ``kind``, or what is wrong with it."""
    if isinstance(raw, list) and not 1 <= len(raw) <= LONGEST:
        raise InvalidInput(f"the body: give from 1 to {LONGEST:,} events, not {len(raw):,}")
    found: list[Said | InvalidInput] = []
    for at, item in [(f"[{i}]", item) for i, item in enumerate(raw)] if isinstance(raw, list) else [("", raw)]:
        try:
            found.append(read(kind, item, at))
        except InvalidInput as error:
            found.append(error)
    return found


def _score(said: FeedbackIn | InvalidInput) -> Refusable:
    if isinstance(said, InvalidInput):
        return said
    return FeedbackEvent(
        decision_id=said.decision_id,
        score=said.verdict,
        source=said.source,
        rater=said.rater,
        comment=said.comment,
        idempotency_key=said.idempotency_key,
        thumb=said.thumb,
        key=BOOTSTRAP,
    )


def _comparison(said: CompareIn | InvalidInput, answered: Mapping[str, str]) -> Refusable:
    """``answered`` maps decisions to the models that answered."""
    if isinstance(said, InvalidInput):
        return said
    try:
        score = said.verdict(answered.get(said.decision_id))
    except InvalidInput as error:
        return error
    return FeedbackEvent(
        decision_id=said.decision_id,
        score=score,
        source=said.source,
        rater=said.rater,
        comment=said.comment,
        idempotency_key=said.idempotency_key,
        other=said.other,
        key=BOOTSTRAP,
    )


async def _answer(service: Service, raw: Any, words: Sequence[Refusable]) -> Response:
    """Append what can be; a list is answered word by word, a lone word that is refused by its error."""
    receipts = await _append(service, words)
    if not isinstance(raw, list) and receipts[0].status == "refused":
        if isinstance(words[0], InvalidInput):
            raise words[0]
        raise _refusal(receipts[0])
    results = [{"index": i} | _told(receipt) for i, receipt in enumerate(receipts)]
    if isinstance(raw, list) and all(receipt.status == "refused" for receipt in receipts):
        nothing = InvalidInput("none of the events could be recorded; results says why, one by one")
        return Json(shape(nothing) | {"results": results}, 422)
    return Json({"results": results}, 202)


async def _append(service: Service, words: Sequence[Refusable]) -> list[Receipt]:
    """A receipt for each word, in their order."""
    events = [word for word in words if isinstance(word, FeedbackEvent)]
    appended = await asyncio.wrap_future(service.feedback.append(events)) if events else []
    if events:
        service.follower.wake()
    for event, receipt in zip(events, appended, strict=True):
        service.metrics.feedback.labels(event.source, receipt.status).inc()
    rest = iter(appended)
    return [
        Receipt("refused", None, word.message, word.param) if isinstance(word, InvalidInput) else next(rest)
        for word in words
    ]


def _refusal(receipt: Receipt) -> InvalidInput:
    """Why the log refused a word, as an error."""
    if receipt.param == "decision_id":
        return UnknownDecision(f"decision_id: {receipt.reason}", param="decision_id")
    return InvalidInput(str(receipt.reason), param=receipt.param)


def _told(receipt: Receipt) -> dict[str, Any]:
    if receipt.status == "refused":
        return {"status": "refused", "reason": receipt.reason, "param": receipt.param}
    return {"status": receipt.status, "seq": receipt.seq}
