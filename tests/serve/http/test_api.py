"""The whole interface over HTTP, on a real store and upstream; Ray and the local model join in `test_live`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from agent.evaluation.trial import HOLD_BACK
from agent.observations import Drift
from agent.snapshot import LineageEvent, Snapshot
from serve.http.api import build_api
from serve.providers.openai import OpenAIProvider
from serve.service import Service
from serve.settings import ServeSettings
from store.join_calls import JoinBudget, JoinCalls
from store.schedule import JobPlan
from store.trials import TrialPlan
from tests.serve.conftest import new_home, prompt, wait
from tests.serve.served import Served
from tests.upstream import Upstream

KEY = "test-key-1234"
HEADERS = ("x-thalweg-model", "x-thalweg-decision-id", "x-thalweg-task", "x-thalweg-snapshot")


@dataclass(frozen=True)
class Server:
    """A server on a real socket and a client with its key."""

    url: str
    http: httpx.Client
    service: Service


@contextmanager
def serving(home: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path) -> Iterator[Server]:
    """A server of a new home whose champion is ``snapshot``, version 1; yields once it serves."""
    settings = ServeSettings(
        home=new_home(home, cache_dir, snapshot).home, api_key=KEY, pool=pool_file, max_body=100_000
    )
    provider = OpenAIProvider(os.environ, timeout_s=1.0, connect_timeout_s=1.0)
    service = Service(settings, {"openai": provider}, (JobPlan("refresh", "interval: 6h", ("much feedback",)),))
    with Served(build_api(service), "on") as served:  # closes the service at its end
        wait(lambda: service.follower.serving is not None)
        with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http:
            yield Server(served.url, http, service)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, snapshot: Snapshot, pool_file: Path
) -> Iterator[Server]:
    """The server of all tests that change nothing which another test sees."""
    with serving(tmp_path_factory.mktemp("api") / "home", cache_dir, snapshot, pool_file) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path) -> Iterator[Server]:
    """A server of the test's own."""
    with serving(tmp_path / "home", cache_dir, snapshot, pool_file) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return server.url


@pytest.fixture(scope="module")
def http(server: Server) -> httpx.Client:
    return server.http


@pytest.fixture(scope="module")
def anyone(url: str) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


def best(**thalweg: Any) -> dict[str, Any]:
    """The greedy best, so that a test knows what comes."""
    return {"thalweg": {"explore": False, "cost_quality_tradeoff": 1.0, **thalweg}}


def route(http: httpx.Client, text: str, **thalweg: Any) -> dict[str, Any]:
    response = http.post("/v1/route", json=ask(text, **best(**thalweg)))
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


# --- routing and answering


@pytest.mark.parametrize(("kind", "model"), [("river", "up/alpha"), ("sum", "up/beta"), ("code", "up/gamma")])
def test_a_chat_is_routed_by_its_task_which_headers_and_body_show(http: httpx.Client, kind: str, model: str) -> None:
    response = http.post("/v1/chat/completions", json=ask(prompt(kind), **best()))
    assert response.status_code == 200
    body = response.json()
    summary = body["thalweg"]
    assert summary["model"] == model and body["choices"][0]["message"]["content"] == f"echo: {prompt(kind)}"
    assert set(summary) == {
        "decision_id", "model", "task", "snapshot", "quality", "cost", "propensity", "explored", "why",
    }  # fmt: skip
    assert [response.headers[h] for h in HEADERS] == [
        model, summary["decision_id"], str(summary["task"]["id"]), str(summary["snapshot"]),
    ]  # fmt: skip
    assert 0.0 <= summary["quality"] <= 1.0 and summary["propensity"] == 1.0 and summary["why"]


def test_all_but_our_object_reaches_the_upstream_and_all_of_its_answer_comes_back(
    http: httpx.Client, upstream: Upstream
) -> None:
    sent = ask("echo me", model="up/alpha", tools=[{"type": "function", "function": {"name": "f"}}], seed=3)
    response = http.post("/v1/chat/completions", json=sent | {"thalweg": {"session": "s-1"}})
    seen = upstream.received[-1]
    assert seen.body == sent | {"model": "alpha-1"}
    assert KEY not in json.dumps(dict(seen.headers))
    assert b'"odd": 1.50' in response.content and response.json()["model"] == "alpha-1"


def test_the_openai_client_gets_answers_plain_and_streamed(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": prompt("poem")}]
    greedy: Any = {"thalweg": {"explore": False}}
    answer = client.chat.completions.create(model="auto", messages=messages, extra_body=greedy)
    assert str(answer.choices[0].message.content).startswith("echo:")
    assert answer.thalweg["decision_id"].startswith("d-")  # type: ignore[attr-defined]
    with client.chat.completions.create(model="auto", messages=messages, stream=True, extra_body=greedy) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks).strip() == f"echo: {prompt('poem')}".replace(
        "\n", " "
    )
    assert [hasattr(c, "thalweg") for c in chunks] == [True] + [False] * (len(chunks) - 1)


def test_a_stream_has_the_headers_and_is_recorded_with_its_usage(http: httpx.Client) -> None:
    body = ask("streamed words", model="up/beta", stream=True, stream_options={"include_usage": True})
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    decision_id = response.headers["x-thalweg-decision-id"]
    assert json.loads(lines[0][6:])["thalweg"]["decision_id"] == decision_id and lines[-1] == "data: [DONE]"
    wait(lambda: explanation(http, decision_id)["outcome"])
    outcome = explanation(http, decision_id)["outcome"]
    assert outcome["status"] == "ok" and (outcome["input_tokens"], outcome["output_tokens"]) == (11, 7)
    assert outcome["cost_usd"] == pytest.approx((11 * 1 + 7 * 2) / 1e6)


def explanation(http: httpx.Client, decision_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/decisions/{decision_id}").raise_for_status().json()
    return found


def test_a_model_by_name_is_called_with_propensity_one(http: httpx.Client) -> None:
    summary = http.post("/v1/chat/completions", json=ask(prompt("code"), model="up/beta")).json()["thalweg"]
    assert summary["model"] == "up/beta" and summary["propensity"] == 1.0 and not summary["explored"]


def test_route_ranks_without_calling(http: httpx.Client, upstream: Upstream) -> None:
    before = len(upstream.seen)
    decision = route(http, prompt("sum"))
    assert len(upstream.seen) == before
    ranked = [c["model"] for c in decision["candidates"]]
    assert ranked[0] == decision["model"] == "up/beta" and len(ranked) == 5
    assert all(c["excluded"] for c in decision["candidates"] if c["model"] in ("up/locked", "local/smollm2"))
    assert all((c["why_not"] is None) == (c["model"] == decision["model"]) for c in decision["candidates"])


def test_route_includes_the_unavailable_on_demand(http: httpx.Client) -> None:
    decision = route(http, prompt("sum"), include_unavailable=True)
    locked = next(c for c in decision["candidates"] if c["model"] == "up/locked")
    assert locked["excluded"] is None


def test_needs_filter_the_candidates(http: httpx.Client) -> None:
    body = ask(prompt("sum"), tools=[{"type": "function", "function": {"name": "f"}}], **best())
    assert http.post("/v1/route", json=body).json()["model"] == "up/alpha"


def test_candidates_limit_the_choice(http: httpx.Client) -> None:
    assert route(http, prompt("sum"), candidates=["up/alpha", "up/gamma"])["model"] != "up/beta"


def test_a_decision_explains_itself_later(http: httpx.Client) -> None:
    sent = ask(prompt("river", "Sofia"), **best(session="conversation-7"))
    decision_id = http.post("/v1/route", json=sent).json()["decision_id"]
    found = explanation(http, decision_id)
    assert found["prompt"] == prompt("river", "Sofia") and found["session"] == "conversation-7"
    assert found["kind"] == "route" and found["outcome"] is None and found["requested_model"] == "auto"
    assert {c["model"]: c["why_not"] for c in found["candidates"]}[found["model"]] is None


# --- what fails upstream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "status", "code", "outcome"),
    [
        ("status 429", 429, "requested", "error"),
        ("status 500", 500, "requested", "error"),
        ("hang", 504, "upstream_timeout", "timeout"),
    ],
)
def test_an_upstream_failure_keeps_status_headers_and_shape(
    http: httpx.Client, text: str, status: int, code: str, outcome: str, stream: bool
) -> None:
    response = http.post("/v1/chat/completions", json=ask(text, model="up/alpha", stream=stream))
    assert response.status_code == status and response.json()["error"]["code"] == code
    decision_id = response.headers["x-thalweg-decision-id"]
    wait(lambda: explanation(http, decision_id)["outcome"])
    assert explanation(http, decision_id)["outcome"]["status"] == outcome


def test_an_answer_that_is_no_json_is_an_upstream_error(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=ask("html", model="up/alpha"))
    assert response.status_code == 502 and "It works!" in response.json()["error"]["message"]


def test_a_stream_that_breaks_ends_with_the_error(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=ask("break", model="up/alpha", stream=True))
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    assert "thalweg" in events[0] and events[-1]["error"]["code"] == "upstream_error"


# --- feedback


def test_feedback_moves_the_estimates_within_two_seconds(own: Server) -> None:
    http = own.http
    text = prompt("code", "median")
    before = route(http, text)
    quality = {c["model"]: c["quality"] for c in before["candidates"]}[before["model"]]
    for n in range(20):
        sent = {"decision_id": route(http, prompt("code", f"f{n}"), candidates=[before["model"]])["decision_id"]}
        receipt = http.post("/feedback", json=sent | {"thumb": "down", "rater": f"r{n}"})
        assert receipt.status_code == 202
    seq = receipt.json()["results"][0]["seq"]
    acked = time.monotonic()
    wait(lambda: http.get("/readyz").json()["position"] >= seq, 2.0)
    after = {c["model"]: c["quality"] for c in route(http, text)["candidates"]}[before["model"]]
    assert time.monotonic() - acked < 2.0
    assert after < quality - 0.05


def test_outcomes_of_calls_move_expected_cost_within_two_seconds(own: Server) -> None:
    """The upstream's answers take 7 tokens, whatever the card says."""
    http = own.http

    def cost() -> float:
        (candidate,) = (c for c in route(http, prompt("code"))["candidates"] if c["model"] == "up/beta")
        assert candidate["cost"] <= candidate["cost_upper"]
        return float(candidate["cost"])

    usual = cost()
    assert http.patch("/v1/models/up/beta", json={"output_tokens": 5000}).json()["output_tokens"] == 5000
    wait(lambda: cost() > 5 * usual, 2.0)
    for n in range(30):
        assert http.post("/v1/chat/completions", json=ask(prompt("code", f"f{n}"), model="up/beta")).is_success
    assert http.post("/v1/chat/completions", json=ask("status 500", model="up/beta")).status_code == 500
    wait(lambda: http.get("/v1/models/up/beta").json()["calls"]["n_calls"] == 31, 2.0)
    calls = http.get("/v1/models/up/beta").json()["calls"]
    assert calls["output_tokens"] == pytest.approx((10 * 5000 + 30 * 7) / 40)
    assert calls["failure_rate"] == pytest.approx(1 / 31) and calls["latency_ms"] > 0.0
    assert http.patch("/v1/models/up/beta", json={"output_tokens": None}).is_success
    wait(lambda: cost() < usual, 2.0)


def test_the_good_half_is_taken_and_the_rest_named_one_by_one(http: httpx.Client) -> None:
    decision_id = route(http, prompt("poem", "fog"))["decision_id"]
    good = {"decision_id": decision_id, "score": 0.5, "source": "judge"}
    events = [
        good,
        good | {"score": 7},
        good | {"score": 0.75},
        good | {"decision_id": "d-never"},
        good | {"source": "implicit", "idempotency_key": "k-1"},
        good | {"source": "implicit", "idempotency_key": "k-1"},
        "not an event",
        {"decision_id": decision_id, "scor": 1},
    ]
    response = http.post("/v1/feedback", json=events)
    assert response.status_code == 202
    results = response.json()["results"]
    assert [r["status"] for r in results] == [
        "recorded", "refused", "revised", "refused", "recorded", "duplicate", "refused", "refused",
    ]  # fmt: skip
    assert [r["index"] for r in results] == list(range(8))
    assert results[1]["param"] == "[1].score" and "d-never" in results[3]["reason"]
    assert results[5]["seq"] == results[4]["seq"] and "did you mean 'score'" in results[7]["reason"]
    rows = explanation(http, decision_id)["feedback"]
    assert [(row["source"], row["score"], row["revises"]) for row in rows] == [
        ("implicit", 0.5, None), ("judge", 0.75, 0.5), ("judge", 0.5, None),
    ]  # fmt: skip


def test_a_comparison_is_recorded_revised_and_shown(http: httpx.Client) -> None:
    decided = route(http, prompt("river", "Ulm"))
    mine, other = decided["model"], decided["candidates"][1]["model"]
    event = {"decision_id": decided["decision_id"], "other": other, "rater": "ann", "source": "judge"}
    alone = http.post("/v1/feedback/compare", json=event | {"preferred": "tie"})
    assert alone.status_code == 202 and alone.json()["results"][0]["status"] == "recorded"
    preferences = [("other", 0.0), (other, 0.0), (mine, 1.0), ("decision", 1.0)]
    many = http.post("/v1/feedback/compare", json=[event | {"preferred": name} for name, _ in preferences])
    assert [r["status"] for r in many.json()["results"]] == ["revised"] * 4
    assert (
        http.post("/feedback", json={k: event[k] for k in ("decision_id", "rater", "source")} | {"score": 0.9}).json()[
            "results"
        ][0]["status"]
        == "recorded"
    )
    rows = explanation(http, decided["decision_id"])["feedback"]
    assert [(row["other"], row["score"]) for row in rows] == [
        (None, 0.9), *((other, score) for _, score in reversed(preferences)), (other, 0.5),
    ]  # fmt: skip


def test_sources_and_raters_are_reported(http: httpx.Client) -> None:
    decided = route(http, prompt("river", "Gera"))
    about = {"decision_id": decided["decision_id"], "rater": "carla"}
    scored = http.post("/feedback", json=about | {"score": 0.9})
    compared = http.post(
        "/v1/feedback/compare", json=about | {"other": decided["candidates"][1]["model"], "preferred": "decision"}
    )
    seq = max(r.json()["results"][0]["seq"] for r in (scored, compared))
    wait(lambda: http.get("/v1/feedback/sources").json()["position"] >= seq, 5.0)
    sources = http.get("/v1/feedback/sources").json()["data"]
    user = {row["kind"]: row for row in sources if row["source"] == "user"}
    assert set(user) == {"score", "comparison"} and user["score"]["n_ratings"] >= 1
    assert all(set(row) == {"source", "kind", "n_ratings", "bias", "slope", "noise", "weight"} for row in sources)
    raters = http.get("/v1/feedback/raters", params={"limit": 1000}).json()["data"]
    carla = next(row for row in raters if row["rater"] == "carla")
    assert carla["n_ratings"] == 2 and 0.8 < carla["weight"] <= 1.0
    assert [row["weight"] for row in raters] == sorted(row["weight"] for row in raters)
    assert len(http.get("/v1/feedback/raters", params={"limit": 1}).json()["data"]) == 1


def test_comparisons_that_cannot_be_used_are_named(http: httpx.Client) -> None:
    decided = route(http, prompt("river", "Linz"))
    mine, other = decided["model"], decided["candidates"][1]["model"]
    good = {"decision_id": decided["decision_id"], "other": other, "preferred": "tie"}
    cases: list[tuple[dict[str, Any], int, str, str]] = [
        ({"decision_id": "d-never"}, 404, "decision_id", "d-never"),
        ({"decision_id": "d-never", "preferred": mine}, 404, "decision_id", "d-never"),
        ({"other": mine}, 422, "other", "beside its own model"),
        ({"other": "up/nobody"}, 422, "other", other),
        ({"preferred": "up/nobody"}, 422, "preferred", "decision, other, tie"),
        ({"score": 1.0}, 422, "score", "no such field"),
    ]
    for wrong, status, param, message in cases:
        response = http.post("/v1/feedback/compare", json=good | wrong)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (status, param) and message in error["message"]
    response = http.post("/v1/feedback/compare", json=[good, *(good | wrong for wrong, *_ in cases)])
    results = response.json()["results"]
    assert response.status_code == 202 and [r["status"] for r in results] == ["recorded"] + ["refused"] * len(cases)
    assert [r["param"] for r in results[1:]] == [
        "decision_id",
        "decision_id",
        "other",
        "other",
        "preferred",
        "[6].score",
    ]


@pytest.mark.parametrize(
    ("sent", "status", "code", "param"),
    [
        ({"decision_id": "d-never", "score": 1}, 404, "decision_not_found", "decision_id"),
        ({"decision_id": "d-never", "score": 1.5}, 422, "invalid_input", "score"),
        ({"decision_id": "d-never"}, 422, "invalid_input", None),
        ([], 422, "invalid_input", None),
        ([{"decision_id": "d-never", "score": 1}], 422, "invalid_input", None),
        ([{}] * 1001, 422, "invalid_input", None),
        ("text", 422, "invalid_input", None),
        (None, 422, "invalid_input", None),
    ],
)
def test_feedback_that_cannot_be_used(http: httpx.Client, sent: Any, status: int, code: str, param: str | None) -> None:
    response = http.post("/feedback", content=json.dumps(sent))
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)


# --- bad requests


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
@pytest.mark.parametrize(
    ("content", "status", "code", "param"),
    [
        (b"", 400, "malformed_json", None),
        (b'{"messages": [', 400, "malformed_json", None),
        (b"[]", 422, "invalid_input", None),
        (b'{"messages": []}', 422, "invalid_input", "messages"),
        (b'{"messages": [{"role": "user", "content": ""}]}', 422, "invalid_input", "messages"),
        (b'{"messages": [{"role": "user", "content": 5}]}', 422, "invalid_input", "messages[0].content"),
        (b'{"messages": [{"role": "user", "content": "' + b"x" * 100_000 + b'"}]}', 413, "body_too_large", None),
        (json.dumps(ask("hi", model="up/alhpa")).encode(), 404, "model_not_found", "model"),
        (json.dumps(ask("hi", thalweg={"candidates": ["nobody"]})).encode(), 404, "model_not_found",
         "thalweg.candidates"),
        (json.dumps(ask("hi", thalweg={"max_cosst": 1})).encode(), 422, "invalid_input", "thalweg.max_cosst"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_in_openais_shape(
    http: httpx.Client, path: str, content: bytes, status: int, code: str, param: str | None
) -> None:
    response = http.post(path, content=content)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"] and "Traceback" not in response.text


def test_a_body_that_does_not_say_its_length_is_cut_off_too(http: httpx.Client) -> None:
    response = http.post("/v1/route", content=(b" " * 50_000 for _ in range(3)))
    assert response.status_code == 413


def test_an_unknown_model_gets_a_hint(http: httpx.Client) -> None:
    message = http.post("/v1/route", json=ask("hi", model="up/alhpa")).json()["error"]["message"]
    assert "did you mean 'up/alpha'" in message


def test_a_model_without_its_key_names_the_variable_and_is_not_tried_again(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json=ask("hi", model="up/locked"))
    assert response.status_code == 503 and response.headers["x-should-retry"] == "false"
    assert "THALWEG_TEST_NO_SUCH_KEY" in response.json()["error"]["message"]


def test_what_no_model_can_do_says_why(http: httpx.Client) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    response = http.post("/v1/route", json={"messages": [{"role": "user", "content": [image]}]})
    assert response.status_code == 422 and response.json()["error"]["code"] == "no_candidate"


@pytest.mark.parametrize("authorization", [None, "Bearer wrong-key", f"Basic {KEY}", KEY, "Bearer"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/route"),
        ("POST", "/feedback"),
        ("GET", "/v1/models"),
        ("GET", "/v1/tasks"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
    ],
)
def test_nothing_answers_without_the_key(
    anyone: httpx.Client, authorization: str | None, method: str, path: str
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    response = anyone.request(method, path, headers=headers, content=b"{}")
    assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(anyone: httpx.Client, path: str) -> None:
    assert anyone.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "param"),
    [
        ("GET", "/v1/decisions/d-never", 404, "decision_id"),
        ("GET", "/v1/tasks/9999", 404, "task_id"),
        ("GET", "/v1/tasks/first", 422, "task_id"),
        ("GET", "/v1/models/nobody", 404, "name"),
        ("DELETE", "/v1/models/nobody", 404, "model"),
        ("POST", "/v1/snapshots/99/promote", 404, "version"),
        ("POST", "/v1/jobs/refersh", 404, "job"),
        ("GET", "/v1/jobs/runs/99", 404, "run_id"),
        ("GET", "/nowhere", 404, None),
        ("GET", "/v1/route", 405, None),
    ],
)
def test_what_is_not_there(http: httpx.Client, method: str, path: str, status: int, param: str | None) -> None:
    response = http.request(method, path)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


# --- administration


def test_models_are_listed_as_openais_client_reads_them(client: openai.OpenAI) -> None:
    models = {m.id: m for m in client.models.list()}
    assert models["up/alpha"].available and not models["up/locked"].available  # type: ignore[attr-defined]
    assert "THALWEG_TEST_NO_SUCH_KEY" in models["up/locked"].unavailable_reason  # type: ignore[attr-defined]


def test_a_model_joins_changes_and_leaves(http: httpx.Client, upstream: Upstream) -> None:
    provider = {"kind": "openai", "base_url": upstream.base_url}
    sent = {"name": "up/delta", "price_input": 3, "price_output": 6, "provider": provider}
    added = http.post("/v1/models", json=sent | {"check": False})
    assert added.status_code == 201 and added.json()["available"]
    assert http.post("/v1/models", json={"name": "up/delta", "provider": provider}).status_code == 422
    assert any(c["model"] == "up/delta" for c in route(http, prompt("sum"))["candidates"]), (
        "the next request may get it"
    )
    assert http.patch("/v1/models/up/delta", json={"price_input": 4}).json()["price_input"] == 4
    assert http.get("/v1/models/up/delta").json()["price_input"] == 4
    assert http.delete("/v1/models/up/delta").json() == {"id": "up/delta", "object": "model", "deleted": True}
    assert all(c["model"] != "up/delta" for c in route(http, prompt("sum"))["candidates"])


def test_a_removed_model_gets_no_further_request_and_the_others_take_over(own: Server) -> None:
    assert route(own.http, prompt("sum"))["model"] == "up/beta"
    own.http.delete("/v1/models/up/beta").raise_for_status()
    answered = own.http.post("/v1/chat/completions", json=ask(prompt("sum"), **best()))
    assert answered.status_code == 200 and answered.headers["x-thalweg-model"] in ("up/alpha", "up/gamma")
    by_name = own.http.post("/v1/chat/completions", json=ask(prompt("sum")) | {"model": "up/beta"})
    assert by_name.status_code == 404


def test_a_request_whose_model_is_removed_while_it_is_routed_goes_to_another(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing, chosen = own.service.live.route, list[str]()

    async def removed_meanwhile(*args: Any, **kwargs: Any) -> Any:
        routed = await routing(*args, **kwargs)
        if not chosen:
            own.service.pool.remove(routed.decision.model)
            own.service.follower.read_pool()
        chosen.append(routed.decision.model)
        return routed

    monkeypatch.setattr(own.service.live, "route", removed_meanwhile)
    answered = own.http.post("/v1/chat/completions", json=ask(prompt("sum"), **best()))
    assert answered.status_code == 200 and chosen[0] == "up/beta"
    assert answered.headers["x-thalweg-model"] == chosen[1] != "up/beta"


@pytest.mark.parametrize("stream", [False, True])
def test_a_routed_request_leaves_out_what_the_models_check_found_refused(
    own: Server, upstream: Upstream, stream: bool
) -> None:
    provider = {"kind": "openai", "base_url": upstream.base_url}
    own.http.delete("/v1/models/up/beta").raise_for_status()
    own.http.post("/v1/models", json={"name": "up/beta", "price_input": 1, "price_output": 2, "provider": provider})
    join = own.service.joins.get("up/beta")
    assert join is not None
    found = {"check": {"limit": "max_completion_tokens", "temperature": False}}
    own.service.joins.move(own.service.joins.move(join, "checked", "it answers", found) or join, "trial", "no probes")
    own.service.follower.read_pool()
    sent = ask(prompt("sum"), max_tokens=9, temperature=0, top_p=0.5, stream=stream) | best(candidates=["up/beta"])
    answer = own.http.post("/v1/chat/completions", json=sent)
    assert answer.status_code == 200
    said = answer.headers["x-thalweg-changed"]
    assert said == "max_tokens is sent as max_completion_tokens; temperature is left out"
    got = upstream.seen[-1]
    assert (got["max_completion_tokens"], got["top_p"]) == (9, 0.5) and not {"max_tokens", "temperature"} & got.keys()
    named = own.http.post("/v1/chat/completions", json=sent | {"model": "up/beta"} | {"thalweg": {}})
    assert "x-thalweg-changed" not in named.headers
    assert upstream.seen[-1]["max_tokens"] == 9 and upstream.seen[-1]["temperature"] == 0


def test_a_model_that_replaces_another_takes_its_traffic(own: Server, upstream: Upstream) -> None:
    before = {c["model"]: c for c in route(own.http, prompt("sum"))["candidates"]}
    sent = {"name": "up/beta2", "price_input": 1, "price_output": 2, "context": 32000}
    answer = own.http.post("/v1/models/up/beta/replace", json=sent)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["replaced"] == "up/beta" and body["model"]["replaces"] == "up/beta"
    assert body["model"]["provider"]["base_url"] == upstream.base_url and "serves on" in " ".join(body["consequences"])
    assert route(own.http, prompt("sum"))["model"] == "up/beta", "until the new one is checked"
    join = own.service.joins.get("up/beta2")
    assert join is not None and own.service.joins.move(join, "checked", "it answers")
    own.service.follower.read_pool()
    found = {c["model"]: c for c in route(own.http, prompt("sum"))["candidates"]}
    heir, old = found["up/beta2"], before["up/beta"]
    assert "up/beta" not in found and heir["quality"] == pytest.approx(old["quality"], abs=1e-6)
    assert heir["stderr"] > old["stderr"] and heir["parts"]["inherited"]["weight"] == pytest.approx(1.0)
    assert sum(p["weight"] * p["estimate"] for p in heir["parts"].values()) == pytest.approx(heir["quality"])
    again = own.http.post("/v1/models/up/alpha/replace", json=sent)
    assert (again.status_code, again.json()["error"]["param"]) == (422, "price_input")
    assert own.http.post("/v1/models/up/none/replace", json={"name": "up/gamma"}).status_code == 404


def test_what_leaving_a_model_out_would_change_is_told(own: Server) -> None:
    for kind in ("sum", "river", "code"):
        route(own.http, prompt(kind))
    found = own.http.get("/v1/models/suggestions").json()
    assert (found["decisions"], found["scored"]) == (3, 0)
    models = {m["model"]: m for m in found["models"]}
    assert models["up/beta"]["advice"] == "keep" and len(models["up/beta"]["tasks"]) == 1
    assert models["local/smollm2"]["advice"] == "not sure" and models["local/smollm2"]["quality"]["mean"] is None


def test_a_changed_price_changes_the_next_choice_without_training(own: Server) -> None:
    usual = {"cost_quality_tradeoff": 0.5}
    assert route(own.http, prompt("sum"), **usual)["model"] == "up/beta"
    own.http.patch("/v1/models/up/beta", json={"price_input": 900, "price_output": 1800}).raise_for_status()
    assert route(own.http, prompt("sum"), **usual)["model"] != "up/beta"
    own.http.patch("/v1/models/up/beta", json={"price_input": 1, "price_output": 2}).raise_for_status()
    assert route(own.http, prompt("sum"), **usual)["model"] == "up/beta"
    assert own.http.get("/v1/snapshots").json()["serving"] == 1


def test_a_model_that_joins_is_not_routed_to_before_it_is_checked(http: httpx.Client, upstream: Upstream) -> None:
    provider = {"kind": "openai", "base_url": upstream.base_url}
    sent = {"name": "up/epsilon", "price_input": 3, "price_output": 6, "provider": provider}
    added = http.post("/v1/models", json=sent).json()
    assert (added["state"], added["available"]) == ("added", False)
    detail = http.get("/v1/models/up/epsilon").json()
    assert [(step["state"], step["reason"]) for step in detail["steps"]] == [("added", "it was added")]
    assert http.get("/v1/models/up/alpha").json()["steps"] == []
    report = http.get("/v1/models/up/epsilon/report", params={"format": "json"}).json()
    assert (report["model"], report["state"], report["usd"]) == ("up/epsilon", "added", 0.0)
    page = http.get("/v1/models/up/epsilon/report")
    assert page.headers["content-type"].startswith("text/html") and "<h1>up/epsilon</h1>" in page.text
    assert http.get("/v1/models/up/alpha/report").status_code == 404

    def excluded() -> str | None:
        found = {c["model"]: c["excluded"] for c in route(http, prompt("sum"))["candidates"]}
        why: str | None = found.get("up/epsilon", "not in the pool yet")
        return why

    assert excluded() not in (None, "not in the pool yet")
    named = http.post(
        "/v1/chat/completions", json={"model": "up/epsilon", "messages": [{"role": "user", "content": "x"}]}
    )
    assert named.status_code == 503 and "not checked yet" in named.json()["error"]["message"]
    http.delete("/v1/models/up/epsilon").raise_for_status()


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"provider": {"kind": "openai", "base_url": "http://x"}}, "name"),
        ({"name": "x", "provider": {"kind": "openai"}}, "provider"),
        ({"name": "x", "provider": {"kind": "magic"}}, "provider.kind"),
        ({"name": "auto", "provider": {"kind": "embedded"}}, "name"),
        ({"name": "acme/\n\x00new", "provider": {"kind": "embedded"}}, "name"),
        ({"name": "x", "pricee": 1, "provider": {"kind": "embedded"}}, "pricee"),
        ({"name": "x", "price_input": -1, "provider": {"kind": "embedded"}}, "price_input"),
    ],
)
def test_a_bad_model_is_named(http: httpx.Client, sent: dict[str, Any], param: str) -> None:
    response = http.post("/v1/models", json=sent)
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize("patch", [{"price": 1}, {"context": 0}, {"name": "new"}])
def test_a_bad_change_is_named(http: httpx.Client, patch: dict[str, Any]) -> None:
    response = http.patch("/v1/models/up/beta", json=patch)
    assert response.status_code == 422 and response.json()["error"]["param"] == next(iter(patch))


def test_tasks_tell_their_candidates_and_experts(http: httpx.Client) -> None:
    tasks = http.get("/v1/tasks").json()["data"]
    assert len(tasks) == 4
    river = next(t for t in tasks if "river" in t["name"])
    assert river["candidates"][0] == river["quality"][0]["model"] == "up/alpha"
    one = http.get(f"/v1/tasks/{river['id']}").json()
    assert one["medoids"] and one["lineage"][0]["kind"] == "spawn"


def test_a_task_that_was_retired_is_still_shown_with_its_successor_and_why(own: Server, snapshot: Snapshot) -> None:
    http, service = own.http, own.service
    successor, gone = (task.id for task in snapshot.tasks[:2])
    new = int(snapshot.meta["next_task"])
    events = (
        LineageEvent("keep", successor, (successor,), {"prompts": 20.0, "overlap": 0.9}),
        LineageEvent("merge", gone, (successor,), {"share": 0.625}),
        LineageEvent("spawn", new, (gone,), {"prompts": 20.0, "share_from_parent": 0.25}),
    )
    entries = [task | ({"id": new, "parents": [gone]} if task["id"] == gone else {}) for task in snapshot.meta["tasks"]]
    heads = tuple(replace(head, task=new) if head.task == gone else head for head in snapshot.heads)
    second = replace(snapshot, meta={**snapshot.meta, "tasks": entries}, heads=heads, lineage=events)
    version = service.snapshots.publish(second, status="champion", report={}, created_by="tests").version
    wait(lambda: http.get("/v1/snapshots").json()["serving"] == version)
    alive = {task["id"]: task for task in http.get("/v1/tasks").json()["data"]}
    every = {task["id"]: task for task in http.get("/v1/tasks?include_retired=true").json()["data"]}
    assert gone not in alive and every.keys() == alive.keys() | {gone}
    child = alive[new]
    assert (child["spawned_in"], child["parents"], child["retired_in"]) == (version, [gone], None)
    life = {
        "id": gone,
        "name": snapshot.tasks[1].name,
        "spawned_in": 1,
        "successor": successor,
        "retired_in": version,
    }
    one = http.get(f"/v1/tasks/{gone}").json()
    assert life.items() <= every[gone].items() <= one.items()
    assert child["retired_at"] is None and one["retired_at"] > one["spawned_at"]
    last = one["lineage"][-1]
    assert (last["snapshot"], last["kind"], last["parents"], last["promoted"]) == (
        version,
        "merge",
        [successor],
        True,
    )
    assert last["why"] == f"62% of its prompts went to task {successor}" and last["figures"] == {"share": 0.625}
    assert last["at"] <= one["retired_at"]
    spawned = http.get(f"/v1/tasks/{new}").json()
    assert spawned["medoids"] and spawned["lineage"][0]["why"].endswith(f"25% of them from task {gone}")
    service.snapshots.promote(1, "back")
    wait(lambda: http.get("/v1/snapshots").json()["serving"] == 1)
    assert http.get(f"/v1/tasks/{gone}").json()["retired_in"] is None
    assert http.get(f"/v1/tasks/{new}").json()["retired_in"] == 1


def test_drifts_are_listed_and_the_model_says_that_it_has_changed(own: Server) -> None:
    http = own.http
    worse, better = Drift("up/alpha", 50, 30, -0.4, "scan"), Drift("up/alpha", 90, 70, 0.25, "adwin")
    own.service.drifts.record(1, [worse, better, Drift("up/beta", 60, 40, 0.1, "scan")])
    listed = http.get("/v1/drifts").json()["data"]
    assert [(row["model"], row["position"]) for row in listed] == [("up/alpha", 90), ("up/beta", 60), ("up/alpha", 50)]
    assert listed[2] | {"detected_at": ""} == {
        "model": "up/alpha", "position": 50, "since": 30, "shift": -0.4, "detector": "scan", "snapshot": 1, "kind": "quality",
        "detected_at": "", "why": "up/alpha fell by 0.40 against what snapshot 1 expected, from feedback row 30 on",
    }  # fmt: skip
    assert http.get("/v1/drifts", params={"limit": 1}).json()["data"] == listed[:1]
    models = {m["id"]: m["drift"] for m in http.get("/v1/models").json()["data"]}
    assert (models["up/alpha"], models["up/beta"], models["up/gamma"]) == (listed[0], listed[1], None)
    assert http.get("/v1/models/up/alpha").json()["drift"] == listed[0]


def test_snapshots_and_a_rollback_without_a_failed_request(own: Server, snapshot: Snapshot) -> None:
    http, service = own.http, own.service
    version = service.snapshots.publish(snapshot, status="champion", report={"gate": 1}, created_by="tests").version
    seen = {route(http, prompt("sum"))["snapshot"]}

    def swapped() -> bool:
        seen.add(route(http, prompt("sum"))["snapshot"])
        return version in seen

    wait(swapped)
    listed = http.get("/v1/snapshots").json()
    assert listed["serving"] == version and listed["data"][0]["report"] == {"gate": 1}
    http.post("/v1/snapshots/1/promote", json={"reason": "worse"}).raise_for_status()
    wait(lambda: route(http, prompt("sum"))["snapshot"] == 1)
    assert http.get("/v1/snapshots").json()["data"][-1]["reason"] == "worse"


def test_a_rollback_in_one_call(own: Server, snapshot: Snapshot) -> None:
    http, service = own.http, own.service
    before = service.snapshots.publish(snapshot, status="champion", report={}, created_by="tests").version
    plan = TrialPlan(HOLD_BACK, 14.0)
    other = service.snapshots.publish(snapshot, status="champion", report={}, created_by="refresh", plan=plan).version
    answer = http.post("/v1/snapshots/rollback")
    assert answer.json() == {"version": before, "status": "champion", "reason": "rolled back by hand"}
    wait(lambda: route(http, prompt("sum"))["snapshot"] == before)
    assert http.post("/v1/snapshots/rollback", json={"why": "?"}).status_code == 422
    bad = service.snapshots.publish(snapshot, status="champion", report={}, created_by="refresh", plan=plan).version
    trial = http.get("/v1/snapshots").json()["trials"][0]
    assert (trial["kind"], trial["champion"], trial["challenger"]) == ("hold-back", bad, before)
    assert service.snapshots.settle(trial["id"], "promoted", "worse", {"mean": 0.1})
    listed = {row["version"]: row for row in http.get("/v1/snapshots").json()["data"]}
    why = {"reason": "worse", "successor": before, "trial": trial["id"], "live": {"mean": 0.1}}
    assert listed[bad]["report"]["demoted"] == why and listed[bad]["why"] == listed[before]["reason"] == "worse"
    assert http.post("/v1/snapshots/rollback", json={"reason": "further"}).json()["version"] == other


def test_a_job_is_queued_once(http: httpx.Client) -> None:
    first = http.post("/v1/jobs/refresh")
    assert first.status_code == 202 and first.json()["state"] == "queued"
    run_id = first.json()["id"]
    assert http.post("/v1/jobs/refresh", json={}).json()["id"] == run_id
    assert http.get("/v1/jobs/runs").json()["data"][0]["id"] == run_id
    assert http.get(f"/v1/jobs/runs/{run_id}").json()["job"] == "refresh"
    [job] = http.get("/v1/jobs/schedule").json()["data"]
    assert (job["job"], job["schedule"], job["also"], job["last_state"]) == (
        "refresh", "interval: 6h", ["much feedback"], "queued",
    )  # fmt: skip
    ahead = datetime.fromisoformat(job["next_run"]) - datetime.fromisoformat(job["last_run"])
    assert ahead == timedelta(hours=6)


def test_joins_are_in_the_metrics(own: Server, upstream: Upstream) -> None:
    provider = {"kind": "openai", "base_url": upstream.base_url}
    sent = {"name": "up/zeta", "price_input": 3, "price_output": 6, "provider": provider}
    own.http.post("/v1/models", json=sent).raise_for_status()
    join = own.service.joins.get("up/zeta")
    assert join is not None
    calls = JoinCalls(own.service.database)
    for subject, cost in (("limit", 0.25), ("stream", None)):
        booked = calls.book(join.id, "check", subject, "up/zeta", 0.5, JoinBudget(2.0, 9))
        assert booked is not None
        calls.done(booked, "ok", cost_usd=cost)
    wait(lambda: 'thalweg_join_usd{model="up/zeta"} 0.75' in own.http.get("/metrics").text)
    assert own.service.joins.move(join, "checked", "it answers") is not None
    wait(lambda: 'thalweg_pool_models{state="checked"} 1.0' in own.http.get("/metrics").text)
    text = own.http.get("/metrics").text
    for line in (
        'thalweg_pool_models{state="added"} 0.0',
        'thalweg_pool_models{state="adopted"} 5.0',
        'thalweg_join_steps{state="added"} 1.0',
        'thalweg_join_steps{state="checked"} 1.0',
        'thalweg_join_steps{state="failed"} 0.0',
    ):
        assert line in text, line


def test_metrics_count(own: Server) -> None:
    route(own.http, prompt("river"))
    answered = own.http.post("/v1/chat/completions", json=ask(prompt("river"), **best()))
    own.http.post("/v1/chat/completions", json=ask("hang", model="up/alpha"))
    own.http.post("/feedback", json={"decision_id": answered.headers["x-thalweg-decision-id"], "score": 1})
    wait(lambda: "thalweg_log_position 1.0" in own.http.get("/metrics").text)
    text = own.http.get("/metrics").text
    for line in (
        'thalweg_decisions_total{explored="false",kind="route",model="up/alpha"} 1.0',
        'thalweg_requests_total{method="POST",route="/v1/route",status="200"} 1.0',
        'thalweg_requests_total{method="POST",route="/v1/chat/completions",status="504"} 1.0',
        'thalweg_calls_total{model="up/alpha",status="ok"} 1.0',
        'thalweg_calls_total{model="up/alpha",status="timeout"} 1.0',
        'thalweg_tokens_total{direction="output",model="up/alpha"} 7.0',
        'thalweg_feedback_total{source="user",status="recorded"} 1.0',
        'thalweg_exploration_regret_total{key="bootstrap"} 0.0',
        "thalweg_snapshot_version 1.0",
        "thalweg_routing_seconds_count 3.0",
    ):
        assert line in text, line


def test_the_documentation_shows_every_route_with_its_request_and_reply(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 200
    document = http.get("/openapi.json").json()
    named = document["components"]["schemas"]

    def properties(schema: dict[str, Any]) -> set[str]:
        """Of an object, of each of several, and of what a list holds; every reference must lead somewhere."""
        if "$ref" in schema:
            return properties(named[schema["$ref"].removeprefix("#/components/schemas/")])
        inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
        return set(schema.get("properties", ())).union(*map(properties, inner))

    shown: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            body = route.get("requestBody", {"content": {"application/json": {"schema": {}}}})["content"][
                "application/json"
            ]
            reply = next(reply for code, reply in route["responses"].items() if code.startswith("2"))
            schema = reply.get("content", {}).get("application/json", {}).get("schema", {})
            shown[method, path] = properties(body["schema"]), properties(schema)
            assert properties(route["responses"]["4XX"]["content"]["application/json"]["schema"]) == {"error"}
    bodies = {
        ("post", "/v1/chat/completions"): {"model", "messages", "thalweg"},
        ("post", "/v1/route"): {"model", "messages", "thalweg"},
        ("post", "/feedback"): {"decision_id", "score", "thumb", "rater"},
        ("post", "/v1/feedback/compare"): {"decision_id", "other", "preferred"},
        ("post", "/v1/models"): {"name", "provider", "price_input"},
        ("patch", "/v1/models/{name}"): {"provider", "price_input"},
        ("post", "/v1/snapshots/{version}/promote"): {"reason"},
        ("post", "/v1/snapshots/rollback"): {"reason"},
        ("post", "/v1/snapshots/end-trial"): {"reason"},
    }
    replies = {
        ("post", "/v1/chat/completions"): {"thalweg"},
        ("post", "/v1/route"): {"decision_id", "candidates", "evidence"},
        ("post", "/feedback"): {"results"},
        ("post", "/v1/feedback/compare"): {"results"},
        ("get", "/v1/feedback/sources"): {"position", "data"},
        ("get", "/v1/feedback/raters"): {"position", "data"},
        ("get", "/v1/decisions/{decision_id}"): {"candidates", "outcome", "feedback"},
        ("get", "/v1/tasks"): {"snapshot", "data"},
        ("get", "/v1/tasks/{task_id}"): {"medoids", "lineage", "successor"},
        ("get", "/v1/drifts"): {"data"},
        ("get", "/v1/snapshots"): {"serving", "trial", "data", "trials"},
        ("post", "/v1/snapshots/end-trial"): {"trial", "state", "reason"},
        ("get", "/v1/models"): {"data"},
        ("post", "/v1/models"): {"id", "unavailable_reason", "drift"},
        ("patch", "/v1/models/{name}"): {"id", "unavailable_reason", "drift"},
        ("delete", "/v1/models/{name}"): {"deleted"},
        ("get", "/v1/jobs/runs"): {"data"},
        ("post", "/v1/jobs/{job}"): {"id", "state", "result"},
        ("get", "/v1/feedback/set-aside"): {"data"},
        ("get", "/readyz"): {"status", "reason", "trial", "set_aside"},
    }
    assert {key: fields - shown[key][0] for key, fields in bodies.items() if fields - shown[key][0]} == {}
    assert {key: fields - shown[key][1] for key, fields in replies.items() if fields - shown[key][1]} == {}
    assert "cost_quality_tradeoff" in named["Steering"]["properties"]
    assert [parameter["name"] for parameter in document["paths"]["/v1/tasks"]["get"]["parameters"]] == [
        "include_retired"
    ]


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
def test_a_body_is_json_whatever_its_content_type(http: httpx.Client, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = http.post("/v1/route", content=json.dumps(ask(prompt("sum"))), headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
def test_a_body_that_is_optional_may_be_empty(http: httpx.Client, body: bytes) -> None:
    assert http.post("/v1/jobs/refresh", content=body).status_code == 202
    assert http.post("/v1/jobs/refresh", content=b"[]").json()["error"]["message"] == "the body: give a JSON object"


def test_numbers_reach_the_upstream_as_they_were(http: httpx.Client, upstream: Upstream) -> None:
    odd = {"seed": 2**63 - 1, "temperature": 1.0, "top_p": 1, "nested": {"x": [1e-9, -0.0, 12345678901234567]}}
    http.post("/v1/chat/completions", json=ask("hi", model="up/alpha", **odd)).raise_for_status()
    assert json.dumps({name: upstream.seen[-1][name] for name in odd}) == json.dumps(odd)
