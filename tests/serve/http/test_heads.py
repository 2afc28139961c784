"""Single heads over HTTP: a change is another champion, which the replica swaps in, and decisions follow it."""

from __future__ import annotations

from pathlib import Path

from agent.snapshot import Snapshot
from tests.serve.conftest import prompt, wait
from tests.serve.http.test_api import serving


def test_a_replaced_head_changes_the_route_and_a_switched_off_one_changes_it_back(
    tmp_path: Path, cache_dir: Path, snapshot: Snapshot, pool_file: Path
) -> None:
    with serving(tmp_path / "home", cache_dir, snapshot, pool_file) as server:
        http, body = (
            server.http,
            {"messages": [{"role": "user", "content": prompt("poem")}], "thalweg": {"explore": False}},
        )

        def route(version: int) -> str:
            wait(lambda: http.get("/readyz").json()["snapshot"] == version)
            decided = http.post("/v1/route", json=body).json()
            assert decided["snapshot"] == version
            return str(decided["model"])

        first = route(1)
        other = next(m for m in snapshot.models if m != first)
        heads = http.get("/v1/snapshots/1/heads").json()["data"]
        assert {h["model"] for h in heads if h["task"] is None} == set(snapshot.models) and heads[0]["weight"] is None
        url = f"/v1/snapshots/1/heads/general/{other}"
        shown = http.get(url).json()
        raised = [*shown["weight"][:-1], shown["intercept"] + 50.0]
        replaced = http.put(url, json={"weight": raised}).json()
        assert (replaced["snapshot"], replaced["weight"]) == (2, raised)
        assert route(2) == other
        off = http.delete(f"/v1/snapshots/2/heads/general/{other}")
        assert off.status_code == 200 and off.json()["off"] is True
        assert route(3) == first
        assert http.put(f"/v1/snapshots/3/heads/general/{other}").json()["off"] is False
        assert route(4) == other
        http.post("/v1/snapshots/rollback")
        assert route(3) == first
        row = http.get("/v1/snapshots").json()["data"][0]
        assert row["why"] == f"snapshot 3 with the general head of {other} switched on by bootstrap"

        stale = http.put(url, json={"off": True})
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "champion_changed")
        for path, sent, status, param in (
            ("3/heads/general/nobody", {"off": True}, 404, "model"),
            ("3/heads/77777/" + other, {"off": True}, 422, "task"),
            ("3/heads/general/" + other, {"weight": [1.0]}, 422, "weight"),
            ("3/heads/general/" + other, {"weight": [1.0], "off": True}, 422, None),
        ):
            refused = http.put(f"/v1/snapshots/{path}", json=sent)
            assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
        for path in ("99/heads", "3/heads/77777/" + other, "3/heads/general/nobody"):
            assert http.get(f"/v1/snapshots/{path}").status_code == 404
