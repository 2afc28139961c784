"""The pool: OpenAI's list of models, and its administration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from agent.errors import InvalidInput
from serve.http.errors import Json
from serve.http.presenters import drift
from serve.http.routes.context import Context, JsonBody, documented
from serve.http.schemas import ModelIn, read
from serve.routing.pool_view import Entry, PoolView
from serve.service import Service
from store.drifts import FoundDrift

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def models(service: Context) -> Response:
    """Every model of the pool, in OpenAI's shape; one that cannot be called says what it lacks, one that has changed
    silently since the serving snapshot was trained says how."""
    drifts = _drifts(service)
    return Json({"object": "list", "data": [_model(entry, drifts) for entry in _pool_view(service)]})


@router.get("/{name:path}")
def model(service: Context, name: str) -> Response:
    """One model."""
    return Json(_model(_pool_view(service).get(name, param="name"), _drifts(service)))


@router.post("", status_code=201, openapi_extra=documented(ModelIn))
def add(service: Context, raw: JsonBody) -> Response:
    """Add a model, or bring a removed one back; it is routed to within a second."""
    added = read(ModelIn, raw).pool_model()
    service.pool.add(added)
    return Json(_changed(service, added.card.name), 201)


@router.patch("/{name:path}")
def change(service: Context, name: str, raw: JsonBody) -> Response:
    """Change some of a model's fields; this outlives restarts and wins over the pool file."""
    if not isinstance(raw, dict):
        raise InvalidInput("the body: give a JSON object of the fields to change")
    if "name" in raw:
        raise InvalidInput("name: a model cannot be renamed; add it under its new name", param="name")
    service.pool.update(name, **raw)
    return Json(_changed(service, name))


@router.delete("/{name:path}")
def remove(service: Context, name: str) -> Response:
    """Take a model out of the pool; the pool file does not bring it back."""
    service.pool.remove(name)
    service.follower.wake()
    return Json({"id": name, "object": "model", "deleted": True})


def _pool_view(service: Service) -> PoolView:
    """The pool as it is now, which the follower may not have seen yet."""
    return PoolView(service.pool.list(), service.providers)


def _drifts(service: Service) -> Mapping[str, FoundDrift]:
    """model -> its last drift that the serving snapshot has not been trained on."""
    serving = service.follower.serving
    return service.drifts.latest(after=serving.router.snapshot.position) if serving else {}


def _changed(service: Service, name: str) -> dict[str, Any]:
    service.follower.wake()
    return _model(_pool_view(service).get(name), _drifts(service))


def _model(entry: Entry, drifts: Mapping[str, FoundDrift]) -> dict[str, Any]:
    card, provider = entry.model.card, entry.model.provider
    return {
        "id": card.name,
        "object": "model",
        "created": 0,
        "owned_by": card.family or provider.kind,
        "available": entry.missing is None,
        "unavailable_reason": entry.missing,
        "drift": drift(drifts[card.name]) if card.name in drifts else None,
        "family": card.family,
        "price_input": card.price_input,
        "price_output": card.price_output,
        "context": card.context,
        "capabilities": sorted(card.capabilities),
        "priors": dict(card.priors),
        "provider": {"kind": provider.kind, "base_url": provider.base_url, "api_key_env": provider.api_key_env,
                     "model": provider.model},
    }  # fmt: skip
