"""The pool as this replica can call it: which models there are, and what the others lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import UnknownModel, did_you_mean
from agent.types import ModelCard
from serve.http.errors import ModelUnavailable
from serve.providers.base import Provider
from store.pool.file import PoolModel


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the pool; ``missing`` says why it cannot be called now, or is None."""

    model: PoolModel
    missing: str | None

    @property
    def card(self) -> ModelCard:
        """The card that the router reads."""
        return replace(self.model.card, available=self.missing is None)


class PoolView:
    """An immutable view of the pool at one revision.

    Parameters
    ----------
    models
        Of the pool.
    providers
        By kind; a model whose provider kind is not among them cannot be called.
    """

    def __init__(self, models: Sequence[PoolModel], providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._entries = {m.card.name: Entry(m, self._missing(m)) for m in models}

    def _missing(self, model: PoolModel) -> str | None:
        provider = self._providers.get(model.provider.kind)
        return provider.missing(model) if provider else f"no provider of kind {model.provider.kind!r} runs here"

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def cards(self) -> list[ModelCard]:
        """What the router chooses among."""
        return [entry.card for entry in self._entries.values()]

    def get(self, name: str, param: str = "model") -> Entry:
        """The model of this name; raises `UnknownModel`."""
        entry = self._entries.get(name)
        if entry is None:
            raise UnknownModel(f"no model {name!r} in the pool{did_you_mean(name, self._entries)}; "
                               "GET /v1/models lists them, and `auto` chooses", param=param)  # fmt: skip
        return entry

    def callable(self, name: str) -> tuple[Provider, PoolModel]:
        """The model of this name and who calls it; raises `UnknownModel` or `ModelUnavailable`."""
        entry = self.get(name)
        if entry.missing:
            raise ModelUnavailable(f"{name} cannot be called: {entry.missing}", param="model")
        return self._providers[entry.model.provider.kind], entry.model
