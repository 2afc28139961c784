"""Who judges: models of the pool, or an endpoint outside it. Nobody judges itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.errors import InvalidInput
from agent.types import ModelCard
from jobs.settings import JobSettings
from store.judge_report import family
from store.pool.file import PoolModel, Provider, pool_model

AUTO = "auto"
"""The model of the pool that the champion estimates highest over all prompts, that can be called, and did not answer."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Who may judge.

    Parameters
    ----------
    named
        Judges by name, of whom each that may judges.
    ranked
        Of these the first that may judges beside them, the best first.
    """

    named: tuple[PoolModel, ...] = ()
    ranked: tuple[PoolModel, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.named or self.ranked)

    @property
    def names(self) -> list[str]:
        """Of the judges, as far as they do not depend on the answers."""
        return [judge.card.name for judge in (*self.named, *self.ranked[:1])]

    def judges_of(self, *answered: ModelCard) -> list[PoolModel]:
        """Who judges answers of these models: nobody its own; one of their families only where nobody else can.

        Where two answers are compared and nobody else is left, one of the two models judges; its score of its own answer is not
        to count.
        """
        names, families = {card.name for card in answered}, {family(card) for card in answered}
        named = _impartial(self.named, names, families)
        ranked = [judge for judge in self.ranked if judge not in named]
        found = named + _impartial(ranked, names, families)[:1]
        if not found and len(names) > 1:
            return list((*self.named, *self.ranked)[:1])
        strangers = [judge for judge in found if family(judge.card) not in families]
        return strangers or found


def judges(
    settings: JobSettings, callable_models: Mapping[str, PoolModel], quality: Mapping[str, float], now: datetime
) -> Bench:
    """The judges by the settings; none where there is none that can be called.

    Parameters
    ----------
    callable_models
        Those of the pool that can judge.
    quality
        model -> overall estimate by the champion.

    Raises
    ------
    InvalidInput
        Where a judge's price is not known, so that its cost could not be bounded.
    """
    names = [name.strip() for name in settings.judge.split(",") if name.strip()]
    if settings.judge_url is not None:
        return Bench(tuple(_outside(settings, name, now) for name in names if name != AUTO))
    named = tuple(callable_models[name] for name in dict.fromkeys(names) if name in callable_models)
    known = sorted((m for m in callable_models if m in quality), key=lambda m: (quality[m], m), reverse=True)
    return Bench(named, tuple(callable_models[m] for m in known) if AUTO in names else ())


def _impartial(judges: Sequence[PoolModel], names: set[str], families: set[str]) -> list[PoolModel]:
    """Those that did not answer, the ones of other families first."""
    others = [judge for judge in judges if judge.card.name not in names]
    return sorted(others, key=lambda judge: family(judge.card) in families)


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
