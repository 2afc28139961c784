"""Replacing a model by another, a new version say: what the new one takes over, and what becomes of the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from agent.errors import InvalidInput
from agent.types import ModelCard
from store.pool.file import FIGURES, PoolModel, pool_model
from store.pool.models import ModelPool


def successor(old: PoolModel, name: str, given: Mapping[str, Any], now: datetime) -> PoolModel:
    """The model ``name`` that is to replace ``old``: what is not given of it is as of the old one, but for prices and context,
    which would be a guess.

    Parameters
    ----------
    given
        Fields of `ModelCard`, and ``provider``.
    now
        Published prices have dates.
    """
    fields = dict(given)
    provider = fields.pop("provider", None) or replace(old.provider, model=id_at_endpoint(old, name))
    kept = {"family": old.card.family, "capabilities": old.card.capabilities, "output_tokens": old.card.output_tokens}
    card = ModelCard(name, **kept | fields)
    return pool_model(card, provider, given=[figure for figure in FIGURES if figure in fields], now=now)


def replace_model(
    pool: ModelPool, old: str, name: str, given: Mapping[str, Any], *, check: bool, now: datetime
) -> tuple[PoolModel, PoolModel]:
    """Let ``name``, which joins the pool or is in it, replace ``old``; both models.

    Parameters
    ----------
    given
        As of `successor`; nothing of a model that is in the pool.
    check
        Whether it is checked before it is routed to, where it joins.

    Raises
    ------
    UnknownModel, InvalidInput
        As `ModelPool.replace`; where something is given of a model that is in the pool.
    """
    before = pool.get(old)
    held = any(model.card.name == name for model in pool.list())
    if held and given:
        field = next(iter(given))
        raise InvalidInput(
            f"the pool holds {name!r} already, so its {field} cannot be given here; change it by PATCH /v1/models/{name} or "
            f"`thalweg models set`, before or after",
            param=field,
        )
    return before, pool.replace(old, name if held else successor(before, name, given, now), check=check)


def id_at_endpoint(old: PoolModel, name: str) -> str | None:
    """By which id the endpoint knows the new model: its name without the vendor, where the old one's id had none."""
    bare = old.provider.model is not None and "/" not in old.provider.model
    return name.partition("/")[2] if bare and "/" in name else None


def consequences(old: PoolModel, new: PoolModel) -> list[str]:
    """What replacing does, in sentences."""
    at = new.provider.base_url or "this machine"
    key = f"the key in {new.provider.api_key_env}" if new.provider.api_key_env else "no key"
    waits = new.unrouted_reason is not None
    name, before = new.card.name, old.card.name
    return [
        f"{name} is called at {at} as {new.provider.model or name!r}, with {key}",
        f"it begins with the estimates of {before}, which count as much as some eight scores, until a snapshot knows it",
        f"{before} serves on, and leaves the pool once {name} has passed its check"
        if waits
        else f"{before} has left the pool",
        f"requests that name {before} are answered by 404 then; nothing is sent to {name} in its place, and its key in "
        f"{old.provider.api_key_env or 'no variable'} is used for it no longer",
        f"what is logged of {before} stays: decisions, feedback, its scores in snapshots",
    ]
