"""`thalweg feedback`."""

from __future__ import annotations

import pytest

from store.database import Database
from tests.jobs.cli.commands import data, refused, thalweg
from tests.jobs.made import record_decision

OTHER = "acme/other"


@pytest.fixture
def decision(home_database: Database) -> str:
    """A logged decision between two models."""
    record_decision(home_database, "d1", {"openai/gpt-4o": 1.0, OTHER: 0.0})
    return "d1"


def test_feedback_is_added_revised_and_refused(decision: str) -> None:
    assert data("feedback", "add", decision, "--score", "0.25") == {
        "status": "recorded",
        "seq": 1,
        "reason": None,
        "param": None,
    }
    assert data("feedback", "add", decision, "--thumb", "up")["status"] == "revised"
    listed = data("feedback", "list")
    assert [(r["score"], r["revises"]) for r in listed] == [(1.0, 0.25), (0.25, None)]
    assert "no decision has the id" in refused("feedback", "add", "d2", "--score", "1")
    assert "score is 1.5" in refused("feedback", "add", decision, "--score", "1.5")
    assert "give either" in refused("feedback", "add", decision)
    assert "give up or down" in refused("feedback", "add", decision, "--thumb", "sideways")
    assert "source is 'nobody'" in refused("feedback", "add", decision, "--score", "1", "--source", "nobody")


def test_comparisons_sources_and_raters(decision: str) -> None:
    assert "no feedback yet" in thalweg("feedback", "sources").stdout
    assert "give one of" in refused("feedback", "compare", decision, "nobody", "tie")
    assert "give decision, other or tie" in refused("feedback", "compare", decision, OTHER, "both")
    assert "no decision has the id" in refused("feedback", "compare", "d2", OTHER, "tie")
    assert data("feedback", "compare", decision, OTHER, "other", "--rater", "ann")["status"] == "recorded"
    assert data("feedback", "add", decision, "--score", "1", "--rater", "ann")["status"] == "recorded"
    assert [(s["source"], s["kind"], s["n_ratings"]) for s in data("feedback", "sources")] == [
        ("user", "comparison", 1), ("user", "score", 1),
    ]  # fmt: skip
    assert [(r["rater"], r["n_ratings"]) for r in data("feedback", "raters")] == [("ann", 2)]
    assert "ann" in thalweg("feedback", "raters").stdout and "comparison" in thalweg("feedback", "sources").stdout
    assert [r["other"] for r in data("feedback", "list")] == [None, OTHER]
