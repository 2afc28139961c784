"""What the router has decided and learned: decisions, tasks, drifts, snapshots."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from agent.errors import InvalidInput, UnknownDecision
from serve.errors import NotFound
from serve.http.schemas import JsonRoute, Limit, Listed, ReasonIn, ServiceDep
from store.snapshot_views import SnapshotView, TrialView
from store.views import DriftView, PromotionView, RecordedDecisionView, TaskDetail, TaskView

router = APIRouter(prefix="/v1", tags=["insight"], route_class=JsonRoute)


class TaskList(Listed[TaskView]):
    """Tasks of the serving snapshot."""

    snapshot: int


class SnapshotList(Listed[SnapshotView]):
    """Snapshots; ``serving`` is the one that this replica routes with, ``trial`` the trial that it takes part in."""

    serving: int | None
    trial: int | None
    trials: list[TrialView]


class EndedTrial(BaseModel):
    """A trial that was ended by hand, and why."""

    trial: int
    state: Literal["ended"] = "ended"
    reason: str


@router.get("/decisions/{decision_id}")
def decision(service: ServiceDep, decision_id: str) -> RecordedDecisionView:
    """A decision explained: why its model, and why not each other one; its outcome and feedback."""
    record = service.decisions.get(decision_id)
    if record is None:
        raise UnknownDecision(f"no decision has the id {decision_id!r}", param="decision_id")
    outcome = service.decisions.outcome(decision_id)
    return RecordedDecisionView.of_record(record, outcome, service.feedback.list(decision_id=decision_id))


@router.get("/tasks")
def tasks(service: ServiceDep, include_retired: bool = False) -> TaskList:
    """The tasks of the serving snapshot, the largest first; on demand then those that former champions had."""
    snapshot = service.live.serving.router.snapshot
    rows = service.lineage.list(include_retired=True)
    return TaskList(snapshot=snapshot.version, data=TaskView.of_all(snapshot, rows, retired=include_retired))


@router.get("/tasks/{task_id}")
def task(service: ServiceDep, task_id: int) -> TaskDetail:
    """One task: where it came from and what became of it; where the snapshot has it, its candidates and experts, what
    each model scores on it and its most central prompts."""
    snapshot = service.live.serving.router.snapshot
    row = service.lineage.get(task_id)
    if row is None or (row.retired_in is None and task_id not in {task.id for task in snapshot.tasks}):
        raise NotFound(
            f"snapshot {snapshot.version} has no task {task_id}, nor had a champion before it; "
            "GET /v1/tasks?include_retired=true lists them",
            param="task_id",
        )
    return TaskDetail.of_row(row, snapshot, service.lineage.events(task_id))


@router.get("/drifts")
def drifts(service: ServiceDep, limit: Limit = 50) -> Listed[DriftView]:
    """Silent changes of models, newest first. ``quality``: a model scores otherwise than its snapshot expects, from row
    ``since`` of the feedback log on. ``tokens``, ``latency``, ``failures``: its answers have another length, take another
    time, its calls fail more or less often, from row ``since`` of the outcome log on. ``position`` is the row at which it was
    found; ``shift`` the change of the mean, of tokens and latency that of their natural logarithm."""
    return Listed(data=[DriftView.of(found) for found in service.drifts.list(limit=limit)])


@router.get("/snapshots")
def snapshots(service: ServiceDep) -> SnapshotList:
    """Every snapshot and the latest trials, newest first: the gate's report, figures of each trial, why each is what it is."""
    serving, trials = service.follower.serving, service.trials.list()
    return SnapshotList(
        serving=serving.router.snapshot.version if serving else None,
        trial=serving.on_trial.trial.id if serving and serving.on_trial else None,
        data=SnapshotView.of_all(service.snapshots.list(), trials),
        trials=[TrialView.of(trial) for trial in trials],
    )


@router.post("/snapshots/{version}/promote")
def promote(service: ServiceDep, version: int, body: ReasonIn = ReasonIn()) -> PromotionView:
    """Make a snapshot the champion; an older one too, which is a rollback. The running trial ends. Replicas follow within
    a second."""
    reason = body.reason or "promoted by hand"
    try:
        service.snapshots.promote(version, reason)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error
    service.follower.wake()
    return PromotionView(version=version, reason=reason)


@router.post("/snapshots/rollback")
def rollback(service: ServiceDep, body: ReasonIn = ReasonIn()) -> PromotionView:
    """Make the last champion before this one the champion again. Replicas follow within a second."""
    reason = body.reason or "rolled back by hand"
    version = service.snapshots.rollback(reason)
    service.follower.wake()
    return PromotionView(version=version, reason=reason)


@router.post("/snapshots/end-trial")
def end_trial(service: ServiceDep, body: ReasonIn = ReasonIn()) -> EndedTrial:
    """End the trial that runs: the champion stays, and a challenger on trial is rejected."""
    reason = body.reason or "ended by hand"
    try:
        trial = service.snapshots.end_trial(reason)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error
    service.follower.wake()
    return EndedTrial(trial=trial, reason=reason)
