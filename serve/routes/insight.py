"""What the router knows: decisions and why, tasks and their experts, snapshots."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from agent.errors import InvalidInput, UnknownDecision
from agent.snapshot import Snapshot, TaskInfo
from serve.errors import Json, NotFound
from serve.explain import Routed, full
from serve.routes.context import Context, OptionalJsonBody
from serve.wire import PromoteIn, RollbackIn, read

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


@router.get("/tasks")
def tasks(service: Context) -> Response:
    """The tasks that the serving snapshot tells apart, the largest first."""
    snapshot = service.live.serving.router.snapshot
    found = sorted(snapshot.tasks, key=lambda task: task.size, reverse=True)
    return Json({"object": "list", "snapshot": snapshot.version, "data": [_task(t, snapshot) for t in found]})


@router.get("/tasks/{task_id}")
def task(service: Context, task_id: int) -> Response:
    """One task: its candidates and experts, what each model scores on it, its most central prompts, its lineage."""
    snapshot = service.live.serving.router.snapshot
    found = next((t for t in snapshot.tasks if t.id == task_id), None)
    if found is None:
        raise NotFound(f"snapshot {snapshot.version} has no task {task_id}; GET /v1/tasks lists them", param="task_id")
    lineage = [{"snapshot": e.snapshot} | asdict(e.event) for e in service.lineage.events(task_id)]
    return Json(_task(found, snapshot) | {"snapshot": snapshot.version, "medoids": found.medoids, "lineage": lineage})


def _task(found: TaskInfo, snapshot: Snapshot) -> dict[str, Any]:
    means = sorted(found.means.items(), key=lambda item: item[1][0], reverse=True)
    return {
        "id": found.id,
        "name": found.name,
        "size": found.size,
        "candidates": found.candidates,
        "experts": [head.model for head in snapshot.heads if head.task == found.id],
        "quality": [{"model": model, "mean": mean, "scores": count} for model, (mean, count) in means],
        "parents": found.parents,
    }


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
    service.follower.nudge()
    return Json({"version": version, "status": "champion", "reason": reason})


@router.post("/snapshots/rollback")
def rollback(service: Context, said: OptionalJsonBody) -> Response:
    """Make the last champion before this one the champion again. Replicas follow within a second."""
    reason = read(RollbackIn, said).reason
    version = service.snapshots.rollback(reason)
    service.follower.nudge()
    return Json({"version": version, "status": "champion", "reason": reason})
