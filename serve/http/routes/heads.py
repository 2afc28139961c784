"""Single heads of a snapshot: listed, shown, replaced, switched off and on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, model_validator

from agent.errors import InvalidInput
from agent.snapshot import Snapshot
from serve.errors import NotFound
from serve.http.schemas import In, JsonRoute, Listed, ServiceDep
from serve.service import BOOTSTRAP, Service
from store.heads import HeadView, change_head, get_head, list_heads

router = APIRouter(prefix="/v1/snapshots/{version}/heads", tags=["heads"], route_class=JsonRoute)


class HeadIn(In):
    """A change of a head: other weights, or whether it is switched off."""

    weight: Annotated[list[float], Field(min_length=1)] | None = Field(
        default=None, description="the intercept last; null: they stay"
    )
    off: bool = False

    @model_validator(mode="after")
    def _one_change(self) -> HeadIn:
        if self.weight is not None and self.off:
            raise ValueError("either weight or off: a head that is switched off counts nothing")
        return self


@router.get("")
def heads(service: ServiceDep, version: int) -> Listed[HeadView]:
    """The heads of a snapshot, general ones first, without their weights."""
    return Listed(data=list_heads(_load(service, version)))


@router.get("/{task}/{model:path}")
def head(service: ServiceDep, version: int, task: str, model: str) -> HeadView:
    """One head with its weights; ``task`` is an id, or ``general``."""
    snapshot = _load(service, version)
    try:
        return get_head(snapshot, task, model)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error


@router.put("/{task}/{model:path}")
def change(service: ServiceDep, version: int, task: str, model: str, body: HeadIn = HeadIn()) -> HeadView:
    """Replace a head's weights, or switch it on (no body) or off. Only the champion's heads can be changed: the same snapshot
    with the one head changed becomes the champion. Replicas follow within a second; a rollback takes it back."""
    return _change(service, version, task, model, body)


@router.delete("/{task}/{model:path}")
def switch_off(service: ServiceDep, version: int, task: str, model: str) -> HeadView:
    """Switch a head off, as `PUT` with ``off``; its weights stay readable."""
    return _change(service, version, task, model, HeadIn(off=True))


def _change(service: Service, version: int, task: str, model: str, body: HeadIn) -> HeadView:
    changed = change_head(service.snapshots, version, task, model, by=BOOTSTRAP, off=body.off, weight=body.weight)
    service.follower.wake()
    return changed


def _load(service: Service, version: int) -> Snapshot:
    try:
        return service.snapshots.load(version)
    except InvalidInput as error:
        raise NotFound(error.message, param=error.param) from error
