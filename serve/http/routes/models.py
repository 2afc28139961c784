"""The pool: OpenAI's list of models, and its administration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from serve.errors import NotFound
from serve.http.schemas import JsonRoute, Listed, ModelChange, ModelIn, ReplaceIn, ServiceDep
from serve.routing.pool_view import Entry, PoolView
from serve.service import Service
from store.columns import utc_now
from store.join_page import to_html
from store.join_report import JoinReport, read_report
from store.pool.replace import consequences, replace_model
from store.suggestions import suggestions
from store.views import ModelDetail, ModelView, ReplacementView, SuggestionsView

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=JsonRoute)


class ModelDeleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


@router.get("")
def models(service: ServiceDep) -> Listed[ModelView]:
    """Every model of the pool, in OpenAI's shape, with what it lacks to be called and its last silent change."""
    return Listed(data=_views(service, _pool_view(service)))


@router.get("/suggestions")
def suggest(service: ServiceDep) -> SuggestionsView:
    """Which models no task needs, and what leaving each out would save or cost a request, by the logs."""
    return suggestions(service.database, service.decisions, service.feedback)


@router.get("/{name:path}/report", response_model=JoinReport)
def report(service: ServiceDep, name: str, format: Literal["json", "html"] = "html") -> Any:
    """How the model joined: where it won and lost against whom, what it cost, what is not sure; a page, or JSON."""
    join = _pool_view(service).get(name, param="name").model.join
    if join is None:
        raise NotFound(f"{name} was in the pool from the start, and has no report", param="name")
    found = read_report(service.database, join)
    return found if format == "json" else HTMLResponse(to_html(found))


@router.get("/{name:path}")
def model(service: ServiceDep, name: str) -> ModelDetail:
    """One model, with the steps by which it came into the pool."""
    entry = _pool_view(service).get(name, param="name")
    join = entry.model.join
    events = [] if join is None else service.joins.events(join.id)
    return ModelDetail.of_join(_views(service, [entry])[0], join, events)


@router.post("", status_code=201)
def add(service: ServiceDep, body: ModelIn) -> ModelView:
    """Add a model, or bring a removed one back. It joins the pool: requests are routed to it once a job has checked it."""
    service.pool.add(body.pool_model(), check=body.check)
    return _changed(service, body.name)


@router.post("/{name:path}/replace", status_code=201)
def replace(service: ServiceDep, name: str, body: ReplaceIn) -> ReplacementView:
    """Let another model, a new version say, take the place of one: it begins with that one's estimates, and that one leaves the
    pool as soon as the new one is routed to. The new one is in the pool already, or joins it by what is given here."""
    old, new = replace_model(service.pool, name, body.name, body.given(), check=body.check, now=utc_now())
    return ReplacementView(model=_changed(service, new.card.name), replaced=name, consequences=consequences(old, new))


@router.patch("/{name:path}")
def change(service: ServiceDep, name: str, body: ModelChange) -> ModelView:
    """Change some of a model's fields, but not its name; this outlives restarts and wins over the pool file."""
    service.pool.update(name, **body.model_dump(exclude_unset=True))
    return _changed(service, name)


@router.delete("/{name:path}")
def remove(service: ServiceDep, name: str) -> ModelDeleted:
    """Take a model out of the pool: this replica chooses it for no further request, others within half a second. Calls that
    are under way end. The pool file does not bring it back."""
    service.pool.remove(name)
    service.follower.read_pool()
    return ModelDeleted(id=name)


def _pool_view(service: Service) -> PoolView:
    """The pool as it is in the database, which the follower may not have read yet."""
    return PoolView(service.pool.list(), service.providers)


def _changed(service: Service, name: str) -> ModelView:
    service.follower.read_pool()
    return _views(service, [_pool_view(service).get(name)])[0]


def _views(service: Service, entries: Iterable[Entry]) -> list[ModelView]:
    """The entries with the last drift of each that the serving snapshot has not been trained on."""
    serving = service.follower.serving
    drifts = service.drifts.latest(after=serving.router.snapshot.position) if serving else {}
    known = service.follower.outcomes
    return [
        ModelView.of(e.model, e.unavailable_reason, drifts.get(e.model.card.name), known.forecast(e.model.card))
        for e in entries
    ]
