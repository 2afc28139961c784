"""The local model as a provider; it runs in another process and is called through a Serve deployment handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from agent.errors import ThalwegError, UpstreamError, UpstreamTimeout
from serve.providers.local.weights import unavailable_reason
from store.pool.file import PoolModel


class EmbeddedProvider:
    """Calls the `serve.providers.local.model.LocalModel` deployment.

    Parameters
    ----------
    handle
        Of that deployment.
    timeout_s
        Longest wait for its next piece of text, its loading and the requests before this one included.
    """

    def __init__(self, handle: DeploymentHandle[Any], *, timeout_s: float) -> None:
        self._handle = handle
        self._timeout_s = timeout_s

    def unavailable_reason(self, model: PoolModel) -> str | None:
        """Names the package that is not installed."""
        return unavailable_reason()

    async def complete(self, model: PoolModel, body: Mapping[str, Any]) -> bytes:
        """The whole answer."""
        response: Any = self._handle.complete.remote(dict(body))
        try:
            answer: bytes = await asyncio.wait_for(response, self._timeout_s)
            return answer
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._translated(error) from error
        finally:
            response.cancel()

    async def stream(self, model: PoolModel, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """The answer's events."""
        relay = self._relay(dict(body))
        await anext(relay)
        return relay

    async def _relay(self, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """An empty chunk once the first event has come, then every event."""
        events: Any = self._handle.options(stream=True).stream.remote(body)
        try:
            first = await asyncio.wait_for(anext(events), self._timeout_s)
            yield b""
            yield first
            while True:
                yield await asyncio.wait_for(anext(events), self._timeout_s)
        except StopAsyncIteration:
            return
        except (RayError, RayServeException, TimeoutError) as error:
            raise self._translated(error) from error
        finally:
            events.cancel()

    async def close(self) -> None:
        """There is nothing to close."""

    def _translated(self, error: Exception) -> ThalwegError:
        if isinstance(error, RayTaskError) and isinstance(error.cause, ThalwegError):
            return error.cause
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(
                f"the local model did not answer within {self._timeout_s:g} s; it may still be loading or be busy with "
                "other requests: try again, or raise THALWEG_UPSTREAM_TIMEOUT_S",
                status=504,
            )
        return UpstreamError(f"the local model's process failed ({type(error).__name__}); it restarts by itself")
