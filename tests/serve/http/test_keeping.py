"""Answers are kept for a judge only where the settings ask for it, and as the client got them, plain or streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.snapshot import Snapshot
from serve.http.api import build_api
from serve.providers.openai import OpenAIProvider
from serve.routing.keeper import LONGEST, KeptText
from serve.service import Service
from serve.settings import ServeSettings
from store.feedback import FeedbackEvent
from store.kept_answers import KeptAnswer, KeptAnswers
from tests.serve.conftest import new_home, wait
from tests.serve.served import Served
from tests.upstream import Upstream, chunk

KEY = "test-key-1234"


@contextmanager
def serving(
    home: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path, **changes: Any
) -> Iterator[tuple[httpx.Client, Service]]:
    settings = ServeSettings(home=new_home(home, cache_dir, snapshot).home, api_key=KEY, pool=pool_file, **changes)
    service = Service(settings, {"openai": OpenAIProvider(os.environ, timeout_s=1.0, connect_timeout_s=1.0)}, ())
    with Served(build_api(service), "on") as served:
        wait(lambda: service.follower.serving is not None)
        with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http:
            yield http, service


def ask(http: httpx.Client, text: str, **fields: Any) -> str:
    body = {"model": "up/alpha", "messages": [{"role": "user", "content": text}], **fields}
    response = http.post("/v1/chat/completions", json=body)
    return response.headers["x-thalweg-decision-id"]


def kept(service: Service) -> dict[str, KeptAnswer]:
    service.writer.submit(lambda _: None).result()
    return {found.decision_id: found for found in KeptAnswers(service.database).waiting()}


def test_nothing_is_kept_by_default_nor_where_prompts_are_not(
    tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "default": {"judge_keep_share": 1.0, "shadow_share": 1.0},
        "embedding": {"judge_daily_usd": 1.0, "judge_keep_share": 1.0, "store_prompts": "embedding"},
    }
    for name, changes in settings.items():
        with serving(tmp_path / name, cache_dir, snapshot, pool_file, **changes) as (http, service):
            ask(http, "one")
            assert kept(service) == {}


def test_answers_are_kept_as_the_client_got_them(
    tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path, upstream: Upstream
) -> None:
    changes = {"judge_daily_usd": 1.0, "judge_keep_share": 1.0, "shadow_share": 0.5}
    with serving(tmp_path / "on", cache_dir, snapshot, pool_file, **changes) as (http, service):
        plain, streamed = ask(http, "plain words"), ask(http, "streamed words", stream=True)
        tool = {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}
        ask(http, "with tools", tools=[tool])
        ask(http, "two answers", n=2)
        ask(http, "status 500")
        ask(http, "break", stream=True)
        found = kept(service)
        assert {id: (a.answer, a.prompt, a.model) for id, a in found.items()} == {
            plain: ("echo: plain words", "plain words", "up/alpha"),
            streamed: ("echo: streamed words ", "streamed words", "up/alpha"),
        }
        assert found[plain].ratings == () and found[plain].candidates[0].model == "up/alpha"
        http.post("/v1/feedback", json={"decision_id": plain, "thumb": "down"})
        assert kept(service)[plain].ratings == (0.0,)
        for i in range(20):
            ask(http, f"more {i}")
        assert 0 < sum(a.shadow for a in kept(service).values()) < 22


def test_judges_are_reported(tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path) -> None:
    with serving(tmp_path / "judges", cache_dir, snapshot, pool_file) as (http, service):
        assert http.get("/v1/judges").json()["data"] == []
        decision = ask(http, "one")
        true = FeedbackEvent(decision, 0.5, "evaluation", "reference")
        service.feedback.append([true, FeedbackEvent(decision, 0.25, "judge", "up/beta")]).result()
        posted = http.post("/v1/feedback", json={"decision_id": decision, "score": 1, "source": "evaluation"})
        assert posted.status_code == 422, "only references and evaluations are true"
        wait(lambda: service.live.serving.router.position == 2)
        reply = http.get("/v1/judges").json()
        [judge] = reply["data"]
        assert (reply["position"], judge["judge"], judge["family"], judge["scores"], judge["known"]) == (
            2,
            "up/beta",
            "up",
            1,
            1,
        )
        assert judge["bias"] == {"value": -0.25, "low": None, "high": None, "n": 1}
        assert judge["models"][0]["model"] == "up/alpha" and judge["models"][0]["offset"] < 0


class Memory:
    """A keeper that keeps in a list."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, bool]] = []

    def keep(self, decision_id: str, text: str, *, shadow: bool) -> None:
        self.kept.append((decision_id, text, shadow))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    events = chunk("m", {"role": "assistant", "content": "Grüße, "}) + chunk("m", {"content": "B"}) + b": note\n\n"
    events += b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n'
    memory = Memory()
    text = KeptText(memory, "d", True)  # type: ignore[arg-type]
    for i in range(0, len(events), size):
        text.feed(events[i : i + size])
    text.done()
    assert memory.kept == [("d", "Grüße, B", True)]


@pytest.mark.parametrize(
    "events",
    [
        b"",
        chunk("m", {"tool_calls": [{"id": "1"}]}),
        chunk("m", {"content": "a"}) + b"data: {cut\n\n",
        chunk("m", {"content": 7}),
        b"data: 7\n\n",
        chunk("m", {"content": "x" * LONGEST}) + chunk("m", {"content": "x"}),
    ],
)
def test_what_is_no_text_is_not_kept(events: bytes) -> None:
    memory = Memory()
    text = KeptText(memory, "d", False)  # type: ignore[arg-type]
    text.feed(events)
    text.done()
    whole = KeptText(memory, "d", False)  # type: ignore[arg-type]
    whole.read(b'{"choices": [{"message": {"content": null}}]}')
    whole.done()
    assert memory.kept == []
