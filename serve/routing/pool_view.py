"""The pool as this replica can call it: its models, and what those lack that cannot be called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import UnknownModel, did_you_mean
from agent.types import ModelCard
from serve.errors import ModelUnavailable
from serve.providers.base import Provider
from store.pool.file import PoolModel


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the pool; ``unavailable_reason`` says why it cannot be called now, None where it can."""

    model: PoolModel
    unavailable_reason: str | None

    @property
    def card(self) -> ModelCard:
        """The card that the router reads."""
        return replace(self.model.routed_card, available=self.unavailable_reason is None)


class PoolView:
    """An immutable view of the pool at one revision; iterates over its entries.

    Parameters
    ----------
    models
        Of the pool.
    providers
        By kind; a model whose provider kind is not among them cannot be called.
    """

    def __init__(self, models: Sequence[PoolModel], providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._entries = {m.card.name: Entry(m, self._unavailable_reason(m)) for m in models}

    def _unavailable_reason(self, model: PoolModel) -> str | None:
        if model.unrouted_reason is not None:
            return model.unrouted_reason
        provider = self._providers.get(model.provider.kind)
        if provider is None:
            return f"no provider of kind {model.provider.kind!r} runs here"
        return provider.unavailable_reason(model)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def cards(self) -> list[ModelCard]:
        """What the router chooses among."""
        return [entry.card for entry in self]

    @property
    def unavailable_reasons(self) -> dict[str, str]:
        """model -> why it cannot be called, of those that cannot."""
        return {name: entry.unavailable_reason for name, entry in self._entries.items() if entry.unavailable_reason}

    def can_call(self, name: str) -> bool:
        """Whether the pool holds the model, and it can be called."""
        entry = self._entries.get(name)
        return entry is not None and entry.unavailable_reason is None

    def get(self, name: str, param: str = "model") -> Entry:
        """The model of this name; raises `UnknownModel`."""
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownModel(f"no model {name!r} in the pool{did_you_mean(name, self._entries)}; "
                               "GET /v1/models lists them, and `auto` chooses", param=param)  # fmt: skip
        return entry

    def provider_of(self, name: str) -> tuple[Provider, PoolModel]:
        """Who calls the model of this name, and the model; raises `UnknownModel` or `ModelUnavailable`."""
        entry = self.get(name)
        if entry.unavailable_reason:
            raise ModelUnavailable(f"{name} cannot be called: {entry.unavailable_reason}", param="model")
        return self._providers[entry.model.provider.kind], entry.model
