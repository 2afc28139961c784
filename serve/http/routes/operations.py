"""Health, readiness, metrics, and job runs, which are asked for here, queued in SQL and run by the scheduler."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel

from agent.errors import InvalidInput, ThalwegError, did_you_mean
from serve.errors import NotFound
from serve.http.schemas import JsonRoute, Limit, Listed, ServiceDep
from serve.metrics import CONTENT_TYPE
from serve.service import BOOTSTRAP, Service
from store.columns import utc_now
from store.runs import Run
from store.schedule import ScheduledJob, scheduled_jobs

router = APIRouter(tags=["operations"], route_class=JsonRoute)

_WRITE_TIMEOUT_S = 2.0


class Readiness(BaseModel):
    """Whether requests can be routed and recorded; ``degraded`` where an older snapshot than the champion serves, or where the
    champion serves without the trial that runs. ``trial`` is the one that this replica takes part in, ``set_aside`` the number
    of rows of the feedback log since the snapshot from which nothing could be learned."""

    status: Literal["ready", "degraded", "unready"]
    reason: str | None = None
    snapshot: int | None = None
    position: int | None = None
    trial: int | None = None
    set_aside: int = 0


@router.get("/healthz")
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(service: ServiceDep, response: Response) -> Readiness:
    """Whether requests can be routed and recorded; 503 where not."""
    serving, degraded = service.follower.serving, service.follower.degraded_reason
    unavailable = service.follower.unavailable_reason or await _unwritable(service)
    able = serving is not None and unavailable is None
    response.status_code = 200 if able else 503
    return Readiness(
        status="unready" if not able else "degraded" if degraded else "ready",
        reason=unavailable or degraded,
        snapshot=serving.router.snapshot.version if serving else None,
        position=serving.router.position if serving else None,
        trial=serving.on_trial.trial.id if serving and serving.on_trial else None,
        set_aside=serving.router.n_set_aside if serving else 0,
    )


async def _unwritable(service: Service) -> str | None:
    """Why the database takes no writes; tries an empty one."""
    try:
        await asyncio.wait_for(asyncio.wrap_future(service.writer.submit(lambda _: None)), _WRITE_TIMEOUT_S)
    except ThalwegError as error:
        return error.message
    except TimeoutError:
        return f"the database has not taken a write for {_WRITE_TIMEOUT_S:g} s"
    return None


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceDep) -> Response:
    """Prometheus' text format."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/v1/jobs/schedule")
def schedule(service: ServiceDep) -> Listed[ScheduledJob]:
    """Each job with its schedule, its last run, the next one by the schedule, and what else calls it."""
    return Listed(data=scheduled_jobs(service.database, service.jobs, utc_now()))


@router.get("/v1/jobs/runs")
def runs(service: ServiceDep, limit: Limit = 50) -> Listed[Run]:
    """The latest runs, newest first."""
    return Listed(data=service.runs.list(limit))


@router.get("/v1/jobs/runs/{run_id}")
def run(service: ServiceDep, run_id: int) -> Run:
    """One run: its state, its result or why it failed."""
    try:
        return service.runs.get(run_id)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error


@router.post("/v1/jobs/{job}", status_code=202)
def request(service: ServiceDep, job: str, params: Annotated[dict[str, Any], Body(default_factory=dict)]) -> Run:
    """Ask for a run of a job now, with the job's parameters; where one is queued already, that one is answered."""
    names = [plan.job for plan in service.jobs]
    if job not in names:
        raise NotFound(f"no job {job!r}{did_you_mean(job, names)}; there are {', '.join(names)}", param="job")
    return service.runs.get(service.runs.request(job, params, BOOTSTRAP))
