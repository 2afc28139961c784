"""The protocol of providers, which call the models of the pool with OpenAI chat requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from store.pool.file import PoolModel


class Provider(Protocol):
    """Calls the models of one kind.

    Bodies are OpenAI chat requests as the client sent them, without the ``thalweg`` object. Failures are
    `UpstreamError`, raised before the first byte of an answer wherever possible.
    """

    def unavailable_reason(self, model: PoolModel) -> str | None:
        """Why ``model`` cannot be called now, with what to do about it; None where it can."""
        ...

    async def complete(self, model: PoolModel, body: Mapping[str, Any]) -> bytes:
        """The whole answer, one JSON object."""
        ...

    async def stream(self, model: PoolModel, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events; returns once the model has begun to answer.

        The generator must be closed; closing it early cancels the call.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
