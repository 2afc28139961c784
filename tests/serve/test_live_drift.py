"""A model that gets worse silently behind a real server is found, recorded and shown, and calls for a refresh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.snapshot import Snapshot
from tests.serve.conftest import WORDS, new_home, prompt, wait
from tests.serve.test_live import Live, ask

STEADY, AFTER = 60, 70
"""Scores of up/alpha before and after it gets worse; together too few to call a refresh by themselves."""


@pytest.fixture
def live(tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path) -> Iterator[Live]:
    running = Live(new_home(tmp_path / "home", cache_dir, snapshot).home, pool_file, refresh_min_feedback=500)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def rate(http: httpx.Client, count: int, score: float) -> None:
    """``count`` answers of up/alpha, each with this score, posted together so that no refresh comes in between."""
    events = []
    for n in range(count):
        answer = http.post("/v1/chat/completions", json=ask(prompt("river", WORDS.split()[n % 20]), model="up/alpha"))
        assert answer.status_code == 200, answer.text
        events.append({"decision_id": answer.headers["x-thalweg-decision-id"], "score": score, "source": "judge"})
    assert http.post("/feedback", json=events).status_code == 202


def listed(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(path).raise_for_status().json()["data"]
    return [
        row for row in found if row.get("kind", "quality") == "quality"
    ]  # the times of calls may change by themselves


def test_a_model_that_gets_worse_silently_is_reported_and_calls_a_refresh(live: Live) -> None:
    with live.http as http:
        rate(http, STEADY, 0.8)
        assert listed(http, "/v1/drifts") == []
        rate(http, AFTER, 0.0)
        wait(lambda: listed(http, "/v1/drifts"), 5.0)
        (drift,) = listed(http, "/v1/drifts")
        assert (drift["model"], drift["snapshot"]) == ("up/alpha", 1) and drift["shift"] < -0.3
        assert abs(drift["since"] - STEADY) <= 5 and "up/alpha fell by" in drift["why"]
        assert 'thalweg_drifts_total{kind="quality",model="up/alpha"} 1.0' in http.get("/metrics").text

        wait(lambda: listed(http, "/v1/jobs/runs"), 15.0)
        (run,) = listed(http, "/v1/jobs/runs")
        assert run["requested_by"] == "timetable"
        assert (
            run["params"]["why"] == f"up/alpha has changed, and {STEADY + AFTER + 1 - drift['since']} scores tell how"
        )
        models = {model["id"]: model["drift"] for model in listed(http, "/v1/models")}
        assert models["up/beta"] is None and models["up/alpha"] in (drift, None), "None once the refresh is promoted"

        wait(lambda: http.get(f"/v1/jobs/runs/{run['id']}").json()["state"] in ("done", "failed"), 120.0)
        done = http.get(f"/v1/jobs/runs/{run['id']}").json()
        assert done["state"] == "done" and done["result"]["position"] == STEADY + AFTER
        serving = done["result"]["version"] if done["result"]["promoted"] else 1
        wait(lambda: http.get("/readyz").json()["snapshot"] == serving, 5.0)
        assert listed(http, "/v1/drifts") == [drift]
        alpha = http.get("/v1/models/up/alpha").json()["drift"]
        assert alpha == (None if done["result"]["promoted"] else drift)
