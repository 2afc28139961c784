"""Who judges: models of the pool, or an endpoint outside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.errors import InvalidInput
from agent.types import ModelCard
from jobs.settings import JobSettings
from store.pool.file import PoolModel, Provider, pool_model

AUTO = "auto"
"""The model of the pool that the champion estimates highest over all prompts, and that can be called."""


def judges(
    settings: JobSettings, callable_models: Mapping[str, PoolModel], quality: Mapping[str, float], now: datetime
) -> list[PoolModel]:
    """The judges by the settings; none where there is none that can be called.

    Parameters
    ----------
    callable_models
        Those of the pool that can judge, without a model that is judged.
    quality
        model -> overall estimate by the champion.

    Raises
    ------
    InvalidInput
        Where a judge's price is not known, so that its cost could not be bounded.
    """
    names = [name.strip() for name in settings.judge.split(",") if name.strip()]
    if settings.judge_url is not None:
        return [_outside(settings, name, now) for name in names if name != AUTO]
    found = []
    for name in names:
        if name == AUTO:
            known = [m for m in callable_models if m in quality]
            name = max(known, key=lambda m: (quality[m], m), default="")
        if name in callable_models:
            found.append(callable_models[name])
    return found


def _outside(settings: JobSettings, name: str, now: datetime) -> PoolModel:
    given: dict[str, Any] = {
        figure: value
        for figure, value in (
            ("price_input", settings.judge_price_input),
            ("price_output", settings.judge_price_output),
        )
        if value is not None
    }
    provider = Provider("openai", settings.judge_url, settings.judge_api_key_env, name)
    found = pool_model(ModelCard(name, **given), provider, given=given, now=now)
    if found.unknown & {"price_input", "price_output"}:
        raise InvalidInput(
            f"the price of the judge {name} at {settings.judge_url} is not known, so what it costs cannot be bounded; "
            "set THALWEG_JUDGE_PRICE_INPUT and THALWEG_JUDGE_PRICE_OUTPUT (0 where it is free)",
            param="THALWEG_JUDGE_PRICE_INPUT",
        )
    return found
