"""The OpenAI provider against a real HTTP upstream."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from agent.errors import UpstreamError, UpstreamTimeout
from agent.types import ModelCard
from serve.providers.openai import OpenAIProvider
from store.pool.file import PoolModel, Provider
from tests.upstream import Upstream, chunk

pytestmark = pytest.mark.anyio

KEY = {"UPSTREAM_KEY": "sk-upstream"}


def model(base_url: str, key: str | None = "UPSTREAM_KEY") -> PoolModel:
    return PoolModel(ModelCard("vendor/m"), Provider("openai", base_url, key, "m-2026"))


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIProvider]:
    calls = OpenAIProvider(KEY, timeout_s=5.0, connect_timeout_s=2.0)
    yield calls
    await calls.close()


@pytest.fixture
async def impatient() -> AsyncIterator[OpenAIProvider]:
    calls = OpenAIProvider(KEY, timeout_s=0.2, connect_timeout_s=2.0)
    yield calls
    await calls.close()


def ask(content: str, **fields: object) -> dict[str, object]:
    return {"model": "auto", "messages": [{"role": "user", "content": content}], **fields}


async def test_the_upstream_sees_its_own_key_and_model_and_every_other_field_as_it_was(
    provider: OpenAIProvider, upstream: Upstream
) -> None:
    await provider.complete(model(upstream.base_url), ask("hi", logit_bias={"50256": -100}, seed=7))
    seen = upstream.received[-1]
    assert seen.headers["authorization"] == "Bearer sk-upstream"
    assert seen.body == ask("hi", logit_bias={"50256": -100}, seed=7) | {"model": "m-2026"}


async def test_an_upstream_without_a_key_gets_none(provider: OpenAIProvider, upstream: Upstream) -> None:
    await provider.complete(model(upstream.base_url, None), ask("hi"))
    assert "authorization" not in upstream.received[-1].headers


async def test_a_missing_key_is_named(provider: OpenAIProvider, upstream: Upstream) -> None:
    assert provider.unavailable_reason(model(upstream.base_url)) is None
    assert "OTHER_KEY" in str(provider.unavailable_reason(model(upstream.base_url, "OTHER_KEY")))


async def test_a_stream_comes_through_byte_for_byte(provider: OpenAIProvider, upstream: Upstream) -> None:
    events = await provider.stream(model(upstream.base_url), ask("two words", stream=True))
    got = b"".join([part async for part in events])
    words = [({"content": "echo: ", "role": "assistant"}), {"content": "two "}, {"content": "words "}]
    expected = b"".join(chunk("m-2026", delta) for delta in words) + chunk("m-2026", {}, "stop")
    assert got == b": a comment before the first event\n\n" + expected + b"data: [DONE]\n\n"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_an_error_keeps_its_status_and_body(
    provider: OpenAIProvider, upstream: Upstream, status: int, stream: bool
) -> None:
    asked = ask(f"status {status}", stream=stream)
    with pytest.raises(UpstreamError) as caught:
        await (provider.stream if stream else provider.complete)(model(upstream.base_url), asked)
    assert caught.value.status == status
    assert json.loads(caught.value.body)["error"]["code"] == "requested"
    assert "vendor/m" in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_is_a_timeout_that_names_model_and_setting(
    impatient: OpenAIProvider, upstream: Upstream, stream: bool
) -> None:
    with pytest.raises(UpstreamTimeout, match=r"vendor/m.*0\.2 s.*THALWEG_UPSTREAM_TIMEOUT_S"):
        await (impatient.stream if stream else impatient.complete)(model(upstream.base_url), ask("hang", stream=stream))


async def test_silence_in_the_middle_of_a_stream_is_a_timeout(impatient: OpenAIProvider, upstream: Upstream) -> None:
    events = await impatient.stream(model(upstream.base_url), ask("slow", stream=True))
    with pytest.raises(UpstreamTimeout):
        async for _ in events:
            pass


async def test_a_broken_stream_is_an_upstream_error(provider: OpenAIProvider, upstream: Upstream) -> None:
    events = await provider.stream(model(upstream.base_url), ask("break", stream=True))
    with pytest.raises(UpstreamError, match="vendor/m"):
        async for _ in events:
            pass


async def test_nobody_there_is_an_upstream_error(provider: OpenAIProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await provider.complete(model(f"http://127.0.0.1:{port}/v1"), ask("hi"))


async def test_closing_a_stream_drops_the_upstream(provider: OpenAIProvider, upstream: Upstream) -> None:
    before = upstream.dropped
    events = await provider.stream(model(upstream.base_url), ask("slow", stream=True))
    await anext(events)
    await events.aclose()
    for _ in range(100):
        if upstream.dropped > before:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the upstream still streams")
