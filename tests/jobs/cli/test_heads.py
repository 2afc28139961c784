"""`thalweg heads`."""

from __future__ import annotations

from pathlib import Path

from store.database import Database
from store.snapshots import SnapshotStore
from tests.agent import clusters
from tests.jobs.cli.commands import data, refused, thalweg

MODEL = "v/alpha"


def test_heads_are_listed_shown_replaced_and_switched_off_and_on(home_database: Database, tmp_path: Path) -> None:
    assert "there is no snapshot yet" in refused("heads", "list")
    store = SnapshotStore(home_database)
    store.publish(clusters.snapshot(), status="champion", report={}, created_by="test")
    assert {h["model"] for h in data("heads", "list") if h["task"] is None} == set(clusters.MODELS)
    assert "general" in thalweg("heads", "list").stdout
    shown = data("heads", "show", "general", MODEL)
    assert (
        len(shown["weight"]) == shown["inputs"]
        and str(shown["inputs"] - 1) in thalweg("heads", "show", "general", MODEL).stdout
    )
    assert data("heads", "off", "general", MODEL)["off"] is True
    assert "snapshot 3 is the champion now" in thalweg("heads", "on", "general", MODEL).stderr
    weights = tmp_path / "weights.json"
    weights.write_text(str([0.5] * shown["inputs"]))
    assert data("heads", "replace", "general", MODEL, "--weights", weights)["intercept"] == 0.5
    assert data("heads", "show", "general", MODEL, "--version", "1") == shown
    why = [s["why"] for s in data("snapshots", "list")[:3]]
    for said, change in zip(why, ("replaced", "switched on", "switched off")):
        assert said.endswith(f"with the general head of {MODEL} {change} by command line")
    weights.write_text('["x"]')
    assert "a list of numbers is wanted" in refused("heads", "replace", "general", MODEL, "--weights", weights)
    assert "weights.jsn" in refused("heads", "replace", "general", MODEL, "--weights", tmp_path / "weights.jsn")
    assert "has no task '77'" in refused("heads", "off", "77", MODEL)
    assert store.champion_version() == 4
