"""Jobs: asked for here, queued in SQL, run by the scheduler."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Response

from agent.errors import InvalidInput, did_you_mean
from serve.http.errors import Json, NotFound
from serve.http.routes.context import Context, OptionalJsonBody
from serve.service import BOOTSTRAP

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/runs")
def runs(service: Context, limit: int = 50) -> Response:
    """The latest runs, newest first."""
    return Json({"object": "list", "data": [asdict(run) for run in service.runs.list(max(1, min(limit, 1000)))]})


@router.get("/runs/{run_id}")
def run(service: Context, run_id: int) -> Response:
    """One run: its state, its result or why it failed."""
    try:
        return Json(asdict(service.runs.get(run_id)))
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error


@router.post("/{job}", status_code=202)
def request(service: Context, job: str, params: OptionalJsonBody) -> Response:
    """Ask for a run of a job now; where one is queued already, that one is answered."""
    if job not in service.jobs:
        known = ", ".join(service.jobs)
        raise NotFound(f"no job {job!r}{did_you_mean(job, service.jobs)}; there are {known}", param="job")
    if not isinstance(params, dict):
        raise InvalidInput("the body: give a JSON object of the job's parameters, or nothing")
    return Json(asdict(service.runs.get(service.runs.request(job, params, BOOTSTRAP))), 202)
