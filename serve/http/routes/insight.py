"""What the router knows: decisions and why, drifts, snapshots."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Response

from agent.errors import InvalidInput, UnknownDecision
from serve.http.errors import Json, NotFound
from serve.http.presenters import Routed, drift, full
from serve.http.routes.context import Context, OptionalJsonBody
from serve.http.schemas import PromoteIn, RollbackIn, read

router = APIRouter(prefix="/v1", tags=["insight"])


@router.get("/decisions/{decision_id}")
def decision(service: Context, decision_id: str) -> Response:
    """The whole explanation of a decision: why its model, and why not each other one; its outcome and feedback."""
    record = service.decisions.get(decision_id)
    if record is None:
        raise UnknownDecision(f"no decision has the id {decision_id!r}", param="decision_id")
    outcome = service.decisions.outcome(decision_id)
    said = service.feedback.list(decision_id=decision_id)
    return Json(
        full(Routed(decision_id, record.decision))
        | {
            "created_at": record.created_at,
            "kind": record.kind,
            "requested_model": record.requested_model,
            "cost_quality_tradeoff": record.tradeoff,
            "session": record.session,
            "key": record.key,
            "prompt": record.prompt,
            "outcome": asdict(outcome) if outcome else None,
            "feedback": [
                {
                    "seq": row.seq,
                    "created_at": row.created_at,
                    "score": row.event.score,
                    "other": row.event.other,
                    "source": row.event.source,
                    "rater": row.event.rater,
                    "comment": row.event.comment,
                    "revises": row.revises,
                }
                for row in said
            ],
        }
    )


@router.get("/drifts")
def drifts(service: Context, limit: int = 50) -> Response:
    """Silent changes of models, newest first: a model scores otherwise than its snapshot expects, from row ``since`` of
    the feedback log on; ``position`` is the row that gave it away, ``shift`` the change of its mean score."""
    return Json(
        {"object": "list", "data": [drift(found) for found in service.drifts.list(limit=max(1, min(limit, 1000)))]}
    )


@router.get("/snapshots")
def snapshots(service: Context) -> Response:
    """Every snapshot, newest first, with the gate's report; ``serving`` is the one that this replica routes with."""
    serving = service.follower.serving
    return Json(
        {
            "object": "list",
            "serving": serving.router.snapshot.version if serving else None,
            "data": [asdict(row) for row in service.snapshots.list()],
        }
    )


@router.post("/snapshots/{version}/promote")
def promote(service: Context, version: int, said: OptionalJsonBody) -> Response:
    """Make a snapshot the champion; an older one too, which is a rollback. Replicas follow within a second."""
    reason = read(PromoteIn, said).reason
    try:
        service.snapshots.promote(version, reason)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error
    service.follower.wake()
    return Json({"version": version, "status": "champion", "reason": reason})


@router.post("/snapshots/rollback")
def rollback(service: Context, said: OptionalJsonBody) -> Response:
    """Make the last champion before this one the champion again. Replicas follow within a second."""
    reason = read(RollbackIn, said).reason
    version = service.snapshots.rollback(reason)
    service.follower.wake()
    return Json({"version": version, "status": "champion", "reason": reason})
