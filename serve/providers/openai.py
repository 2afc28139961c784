"""OpenAI-compatible upstreams over HTTP; their answers are passed on byte for byte."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from agent.errors import UpstreamError, UpstreamTimeout
from store.pool.file import PoolModel

_ERROR_LIMIT = 64 * 1024


class OpenAIProvider:
    """Calls upstreams that speak OpenAI's chat completions.

    Parameters
    ----------
    env
        Where the upstreams' keys are; a model's ``api_key_env`` names its variable.
    timeout_s
        Longest wait for an upstream's next byte.
    connect_timeout_s
        Longest wait for a connection.
    """

    def __init__(self, env: Mapping[str, str], *, timeout_s: float, connect_timeout_s: float) -> None:
        self._env = env
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s, pool=connect_timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0),
        )

    def unavailable_reason(self, model: PoolModel) -> str | None:
        """Names the environment variable whose key is not set."""
        name = model.provider.api_key_env
        return f"set {name} to its API key" if name and not self._env.get(name) else None

    async def complete(self, model: PoolModel, body: Mapping[str, Any]) -> bytes:
        """The upstream's answer, as it came."""
        with self._translated(model):
            response = await self._client.send(self._request(model, body))
        if not response.is_success:
            raise self._refusal(model, response.status_code, response.content)
        return response.content

    async def stream(self, model: PoolModel, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """The upstream's events, as they come."""
        with self._translated(model):
            response = await self._client.send(self._request(model, body), stream=True)
            if not response.is_success:
                try:
                    raise self._refusal(model, response.status_code, await _beginning(response))
                finally:
                    await response.aclose()
        relay = self._relay(model, response)
        await anext(relay)  # from here on, closing the generator closes the response
        return relay

    async def _relay(self, model: PoolModel, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            yield b""
            with self._translated(model):
                async for chunk in response.aiter_bytes():
                    yield chunk
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()

    def _request(self, model: PoolModel, body: Mapping[str, Any]) -> httpx.Request:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        name = model.provider.api_key_env
        if name:
            headers["authorization"] = f"Bearer {self._env[name]}"
        content = orjson.dumps({**body, "model": model.provider.model or model.card.name})
        url = f"{str(model.provider.base_url).rstrip('/')}/chat/completions"
        return self._client.build_request("POST", url, headers=headers, content=content)

    def _refusal(self, model: PoolModel, status: int, body: bytes) -> UpstreamError:
        text = body[:500].decode("utf-8", "replace").strip() or "nothing"
        return UpstreamError(f"{model.card.name} answered {status}: {text}", status=status, body=body[:_ERROR_LIMIT])

    @contextmanager
    def _translated(self, model: PoolModel) -> Any:
        """httpx's errors as `UpstreamError`s that name the model."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(
                f"{model.card.name} at {model.provider.base_url} did not answer within {self._timeout_s:g} s "
                f"({type(error).__name__}); try another model, or raise THALWEG_UPSTREAM_TIMEOUT_S",
                status=504,
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(
                f"{model.card.name} at {model.provider.base_url} cannot be reached "
                f"({type(error).__name__}: {error}); check its base_url and that it is up"
            ) from error


async def _beginning(response: httpx.Response) -> bytes:
    """At most `_ERROR_LIMIT` bytes of an error's body."""
    out = b""
    async for chunk in response.aiter_bytes():
        out += chunk
        if len(out) >= _ERROR_LIMIT:
            break
    return out
