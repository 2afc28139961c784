"""The JSON form of what the store and the router know."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.observations import Drift
from agent.snapshot import LineageEvent, TaskInfo
from agent.types import CallForecast, ModelCard
from store.decisions import Outcome
from store.drifts import FoundDrift
from store.feedback import FeedbackEvent, FeedbackRow
from store.lineage import TaskEvent, TaskRow
from store.pool.file import PoolModel, Provider
from store.views import (
    DecisionSummary,
    DecisionView,
    DriftView,
    FeedbackView,
    ModelView,
    RecordedDecisionView,
    TaskDetail,
    TaskView,
    to_json,
)
from tests.store.build import a_record, a_snapshot

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW = FeedbackRow(4, NOW, "a", FeedbackEvent("d1", 0.0, "user", "ann", "no", "k", "down", None, "bootstrap"), 0.5)
FALL = FoundDrift(Drift("a", 50, 30, -0.4, "scan"), 3, NOW)


def plain(value: Any) -> Any:
    return json.loads(to_json(value))


def life(id: int, *, retired: bool = False) -> TaskRow:
    return TaskRow(id, f"task {id}", 1, (), 1 if retired else None, 2 if retired else None, NOW, NOW)


def test_a_summary_is_the_beginning_of_the_whole_decision() -> None:
    decision = a_record("d1").decision
    summary = plain(DecisionSummary.of(decision, "d1"))
    assert summary == {
        "decision_id": "d1", "model": "a", "task": {"id": 7, "name": "arithmetic", "probability": 0.93}, "snapshot": 3,
        "quality": 0.8, "cost": 0.001, "propensity": 0.9, "explored": False, "why": "a is best",
    }  # fmt: skip
    whole = plain(DecisionView.of(decision, "d1"))
    assert summary.items() <= whole.items()
    assert (whole["position"], whole["tokens"], whole["coverage"]) == (12, 17, 0.75)
    assert plain(DecisionView.of(decision))["decision_id"] is None


def test_a_decision_says_of_each_candidate_why_not_and_what_it_lacks_and_of_evidence_what_its_text_was() -> None:
    whole = plain(DecisionView.of(a_record("d1").decision, "d1", {"b": "set B_KEY"}, {"e1": "What is 3 + 3?"}))
    a, b, c = whole["candidates"]
    assert a["why_not"] is None and "worse" in b["why_not"] and c["why_not"] == c["excluded"] == "no vision"
    assert [x["unavailable_reason"] for x in (a, b, c)] == [None, "set B_KEY", None]
    assert a["parts"] == {"task": {"estimate": 0.81, "weight": 1.0}, "online": {"estimate": -0.01, "weight": 1.0}}
    assert (a["shrinkage"], a["cost_penalty"]) == (0.0, 0.01)
    assert whole["evidence"] == [
        {"prompt_id": "e1", "similarity": 0.88, "scores": {"a": 1.0, "b": 0.0}, "text": "What is 3 + 3?"}
    ]


def test_a_number_that_is_not_finite_is_null() -> None:
    decision = a_record("d1").decision
    unknown = replace(decision, candidates=(replace(decision.candidates[0], stderr=math.nan), *decision.candidates[1:]))
    assert plain(DecisionView.of(unknown))["candidates"][0]["stderr"] is None


def test_a_recorded_decision_has_its_request_outcome_and_feedback() -> None:
    record = a_record("d1", created_at=NOW, session="s", key="bootstrap", cost_quality_tradeoff=0.3, kind="route")
    found = plain(RecordedDecisionView.of_record(record, Outcome(status="ok", latency_ms=2.0), [ROW]))
    assert plain(DecisionView.of(record.decision, "d1")).items() <= found.items()
    asked = ("created_at", "kind", "requested_model", "cost_quality_tradeoff", "session", "key", "prompt")
    assert [found[name] for name in asked] == [
        "2026-01-02T03:04:05Z", "route", "auto", 0.3, "s", "bootstrap", "What is 2 + 2?",
    ]  # fmt: skip
    assert found["outcome"] == plain(Outcome(status="ok", latency_ms=2.0)) and found["feedback"] == [
        plain(FeedbackView.of(ROW))
    ]
    assert plain(RecordedDecisionView.of_record(record, None, []))["outcome"] is None


def test_a_feedback_row_is_flat() -> None:
    assert plain(FeedbackView.of(ROW)) == {
        "seq": 4, "created_at": "2026-01-02T03:04:05Z", "decision_id": "d1", "model": "a", "score": 0.0, "other": None,
        "source": "user", "rater": "ann", "comment": "no", "thumb": "down", "idempotency_key": "k", "key": "bootstrap",
        "revises": 0.5,
    }  # fmt: skip


def test_a_drift_says_which_snapshot_expected_what() -> None:
    assert plain(DriftView.of(FALL)) == {
        "model": "a", "position": 50, "since": 30, "shift": -0.4, "detector": "scan", "snapshot": 3, "kind": "quality",
        "detected_at": "2026-01-02T03:04:05Z", "why": FALL.why,
    }  # fmt: skip


def test_a_model_says_what_it_lacks_and_how_it_has_changed() -> None:
    card = ModelCard("v/m", "", 1.0, 2.0, 100, frozenset({"vision", "json"}), {"math": 0.5}, output_tokens=900)
    model = PoolModel(card, Provider("openai", "http://x/v1", "KEY"), removed=True)
    calls = CallForecast(900.0, 1980.0)
    found = plain(ModelView.of(model, "set KEY", FALL, calls))
    assert found == {
        "id": "v/m", "object": "model", "created": 0, "owned_by": "openai", "available": False,
        "unavailable_reason": "set KEY", "removed": True, "replaces": None, "drift": plain(DriftView.of(FALL)), "family": "",
        "state": "adopted", "state_reason": "it was in the pool from the start",
        "price_input": 1.0, "price_output": 2.0, "context": 100, "capabilities": ["json", "vision"],
                    "priors": {"math": 0.5}, "output_tokens": 900, "calls": plain(calls),
        "provider": {"kind": "openai", "base_url": "http://x/v1", "api_key_env": "KEY", "model": None},
    }  # fmt: skip
    ready = ModelView.of(replace(model, card=replace(card, family="v")), None)
    assert ready.available and ready.drift is None and ready.owned_by == "v"


def test_tasks_come_by_size_and_those_that_have_gone_last_on_demand() -> None:
    snapshot = a_snapshot((1, 2))
    entries = [task | {"size": task["size"] + task["id"]} for task in snapshot.meta["tasks"]]
    snapshot = replace(snapshot, meta={**snapshot.meta, "tasks": entries})
    lives = [life(1), life(2), life(3, retired=True), life(4)]
    assert [task.id for task in TaskView.of_all(snapshot, lives)] == [2, 1]
    *_, gone = TaskView.of_all(snapshot, lives, retired=True)
    assert (gone.id, gone.successor, gone.retired_in, gone.retired_at, gone.size) == (3, 1, 2, NOW, None)
    assert (TaskView.of_all(snapshot, lives)[0].experts, gone.experts) == (["a"], None)


def test_qualities_of_a_task_come_best_first() -> None:
    task = TaskInfo(1, "renamed", 9, ("b",), ("m",), {"a": (0.5, 3.0), "b": (0.7, 1.5)})
    found = plain(TaskView.of(life(1), task))
    assert found["quality"] == [
        {"model": "b", "mean": 0.7, "n_scores": 1.5}, {"model": "a", "mean": 0.5, "n_scores": 3.0},
    ]  # fmt: skip
    assert (found["name"], found["size"], found["candidates"]) == ("renamed", 9, ["b"])


def test_one_task_has_its_central_prompts_and_its_lineage() -> None:
    event = TaskEvent(3, NOW, True, LineageEvent("merge", 3, (1,), {"share": 0.625}))
    found = plain(TaskDetail.of_row(life(1), a_snapshot(), [event], {"m": "a prompt"}))
    assert found["medoids"] == [{"prompt_id": "m", "text": "a prompt"}] and found["snapshot"] == 0
    assert found["lineage"] == [
        {"snapshot": 3, "at": "2026-01-02T03:04:05Z", "promoted": True, "kind": "merge", "parents": [1],
         "figures": {"share": 0.625}, "why": "62% of its prompts went to task 1"}
    ]  # fmt: skip
    assert TaskDetail.of_row(life(3, retired=True), a_snapshot(), []).medoids is None
