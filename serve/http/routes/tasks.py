"""Discovered tasks: their experts, and their lives from birth to merge or retirement."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.snapshot import Snapshot, TaskInfo
from serve.http.errors import Json, NotFound
from serve.http.routes.context import Context
from store.lineage import TaskEvent, TaskLife

router = APIRouter(prefix="/v1/tasks", tags=["insight"])


@router.get("")
def tasks(service: Context, include_retired: bool = False) -> Response:
    """The tasks that the serving snapshot tells apart, the largest first; then, on demand, those that once were."""
    snapshot = service.live.serving.router.snapshot
    found = sorted(snapshot.tasks, key=lambda task: task.size, reverse=True)
    lives = {life.id: life for life in service.lineage.list(include_retired=True)}
    data = [_life(lives[task.id]) | _task(task, snapshot) for task in found]
    if include_retired:
        living = {task.id for task in found}
        data += [_life(life) for life in lives.values() if life.retired_in is not None and life.id not in living]
    return Json({"object": "list", "snapshot": snapshot.version, "data": data})


@router.get("/{task_id}")
def task(service: Context, task_id: int) -> Response:
    """One task: where it came from and what became of it; while it lives, its candidates and experts, what each model
    scores on it and its most central prompts."""
    snapshot = service.live.serving.router.snapshot
    found = next((t for t in snapshot.tasks if t.id == task_id), None)
    life = service.lineage.get(task_id)
    if life is None or (found is None and life.retired_in is None):
        raise NotFound(
            f"snapshot {snapshot.version} has no task {task_id}, nor had a champion before it; "
            "GET /v1/tasks?include_retired=true lists them",
            param="task_id",
        )
    now = _task(found, snapshot) | {"medoids": found.medoids} if found else {}
    lineage = [_event(event) for event in service.lineage.events(task_id)]
    return Json(_life(life) | now | {"snapshot": snapshot.version, "lineage": lineage})


def _life(life: TaskLife) -> dict[str, Any]:
    """Whence and whither, by snapshots and times."""
    return {
        "id": life.id,
        "name": life.name,
        "born_in": life.born_in,
        "born_at": life.created_at,
        "born_from": life.born_from,
        "merged_into": life.merged_into,
        "retired_in": life.retired_in,
        "retired_at": life.retired_at,
    }


def _task(found: TaskInfo, snapshot: Snapshot) -> dict[str, Any]:
    """What the snapshot knows of a task that lives."""
    means = sorted(found.means.items(), key=lambda item: item[1][0], reverse=True)
    return {
        "id": found.id,
        "name": found.name,
        "size": found.size,
        "candidates": found.candidates,
        "experts": [head.model for head in snapshot.heads if head.task == found.id],
        "quality": [{"model": model, "mean": mean, "scores": count} for model, (mean, count) in means],
    }


def _event(found: TaskEvent) -> dict[str, Any]:
    """What became of a task in a snapshot, and why; a snapshot that was never promoted changed nothing."""
    return {
        "snapshot": found.snapshot,
        "at": found.at,
        "promoted": found.promoted,
        "kind": found.event.kind,
        "parents": found.event.parents,
        "evidence": found.event.evidence,
        "why": found.why,
    }
