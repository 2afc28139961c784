"""`thalweg route`, `import`, `refresh`, `runs`, `tasks` and `snapshots`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.app import main
from jobs.settings import JobSettings
from store.database import Database
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from tests.jobs.cli.commands import MAIN, ROOT, data, refused, thalweg
from tests.jobs.made import live, publish, records, trained, write

PROMPT = "Prove that sqrt(2) is irrational"
pytestmark = pytest.mark.usefixtures("home", "word_encoder")


def test_a_fresh_install_routes() -> None:
    routed = data("route", PROMPT)
    assert routed["model"] == routed["candidates"][0]["model"]
    assert routed["why"]
    assert routed["task"]["name"]
    assert len(routed["candidates"]) >= 11
    reasons = {c["model"]: c["unavailable_reason"] for c in routed["candidates"]}
    assert "OPENAI_API_KEY is not set" in str(reasons["openai/gpt-4o"])
    shown = thalweg("route", PROMPT)
    assert shown.exit_code == 0
    assert routed["candidates"][0]["model"] in shown.stdout
    assert "OPENAI_API_KEY is not set" in shown.stdout
    ready = data("route", PROMPT, "--available")
    assert ready["model"] == "local/smollm2-135m-instruct"
    assert thalweg("route", "-", stdin=PROMPT).exit_code == 0
    tasks = data("tasks", "list")
    assert {"id", "name", "size", "candidates"} <= set(tasks[0])
    one = data("tasks", "show", str(tasks[0]["id"]))
    assert one["quality"][0]["mean"] >= one["quality"][-1]["mean"]
    assert all(medoid["text"] for medoid in one["medoids"]), "texts of the seed set are known"
    assert "no task 999" in refused("tasks", "show", "999")


@pytest.mark.usefixtures("few_seed_prompts")
def test_bad_requests_are_refused() -> None:
    assert "prompt is empty" in refused("route", "  ")
    assert "--tradeoff is 7" in refused("route", PROMPT, "--tradeoff", "7")
    assert "gpt-4o" in refused("route", PROMPT, "--candidate", "openai/gpt-4oo")


@pytest.mark.usefixtures("few_seed_prompts")
def test_import_refresh_and_roll_back(tmp_path: Path) -> None:
    file = write(tmp_path / "made" / "train.jsonl.gz", records(240))
    assert data("route", PROMPT)["snapshot"] == 1
    imported = data("import", str(file))
    assert imported[0] | {"file": ""} == {
        "file": "", "dataset": "made", "split": "train", "rows": 240, "new_prompts": 240, "scores": 960, "duplicates": 0,
    }  # fmt: skip
    assert data("import", str(file))[0]["duplicates"] == 240
    refreshed = data("refresh")
    assert (refreshed["version"], refreshed["status"]) == (2, "champion")
    assert refreshed["report"]["labels"]["nmi"] > 0.6
    assert [(s["version"], s["status"]) for s in data("snapshots", "list")] == [(2, "champion"), (1, "retired")]
    assert [r["state"] for r in data("runs", "list")] == ["done"]
    assert data("route", "simmer onion garlic butter")["snapshot"] == 2
    living, every = data("tasks", "list"), data("tasks", "list", "--retired")
    gone = [task for task in every if task["retired_in"] == 2]
    assert gone and every == living + gone and all(task["retired_in"] is None for task in living)
    one = data("tasks", "show", gone[0]["id"])
    assert gone[0].items() <= one.items() and one["quality"] is None and one["medoids"] is None
    assert one["lineage"][-1]["kind"] in ("merge", "retire") and one["lineage"][-1]["why"] and one["retired_at"]
    assert "snapshot 2" in thalweg("tasks", "show", gone[0]["id"]).stdout
    assert one["name"] in thalweg("tasks", "list", "--retired").stdout
    assert data("snapshots", "rollback")["version"] == 1
    assert data("route", PROMPT)["snapshot"] == 1
    assert data("snapshots", "promote", "2")["version"] == 2
    assert "no snapshot 9" in refused("snapshots", "promote", "9")
    for listing in (
        ("snapshots", "list"),
        ("runs", "list"),
        ("tasks", "list"),
        ("models", "list"),
        ("feedback", "list"),
        ("drifts", "list"),
        ("feedback", "set-aside"),
    ):
        shown = thalweg(*listing)
        assert shown.exit_code == 0
        assert shown.stdout.strip()


def test_the_reason_of_a_run_stands_in_the_list(home_database: Database) -> None:
    JobRuns(home_database).request("refresh", {"why": "a has changed, and 40 scores tell how"}, "timetable")
    assert "timetable: a has changed, and 40 scores tell how" in " ".join(thalweg("runs", "list").stdout.split())


def test_values_and_an_automatic_rollback_are_shown(home_database: Database) -> None:
    snapshots = SnapshotStore(home_database)
    publish(home_database, misled=False)
    champion = publish(home_database, misled=True, plan=JobSettings().hold_back_plan)
    live(home_database, champion, records(200, seed=7))
    found = data("snapshots", "value", "--always", "cheap", "--since", "20")
    assert (found["since"], found["upto"], found["decisions"], found["fresh"]) == (20, 200, 180, 180)
    assert [p["policy"] for p in found["policies"]] == ["snapshot 2", "snapshot 1", "logged", "always cheap"]
    for policy in found["policies"]:
        for name in ("ips", "snips", "dr"):
            assert policy[name]["low"] < policy[name]["mean"] < policy[name]["high"]
    assert [p["policy"] for p in data("snapshots", "value", "1")["policies"]] == ["snapshot 1", "logged"]
    shown = thalweg("snapshots", "value").stdout
    assert "200 decisions: 200 with feedback after" in shown and "snapshot 2" in shown and "doubly robust" in shown
    assert "no snapshot 9" in refused("snapshots", "value", "9")
    assert "no decision could have chosen" in refused("snapshots", "value", "--always", "nobody")
    figures = {"n": 90, "mean": 0.2, "stderr": 0.05, "lower": 0.1, "upper": 0.3}
    assert snapshots.settle(1, "promoted", "worse live by 0.2", figures)
    shown = thalweg("snapshots", "list").stdout
    assert "worse live by 0.2" in shown and "+0.2000" in shown
    assert "no former champion" in refused("snapshots", "rollback")


def test_trials_are_listed_and_ended_by_hand(home_database: Database, settings: JobSettings) -> None:
    snapshots = SnapshotStore(home_database)
    publish(home_database, misled=False)
    snapshots.publish(
        trained(True), status="trial", report={"reason": "on trial: undecided"}, created_by="refresh",
        plan=settings.trial_plan,
    )  # fmt: skip
    shown = " ".join(thalweg("snapshots", "list").stdout.split())
    assert "trials: challenger less champion" in shown and "0 of 0" in shown
    challenger, champion = data("snapshots", "list")
    assert (challenger["status"], champion["trial"], challenger["trial"]["state"]) == ("trial", None, "running")
    assert challenger["why"].startswith("on trial beside snapshot 1, nothing is proven yet")
    assert data("snapshots", "end-trial", "--reason", "enough") == {"trial": 1, "state": "ended", "reason": "enough"}
    assert data("snapshots", "list")[0]["why"] == "enough"
    assert "no trial runs" in refused("snapshots", "end-trial")


def test_a_file_with_a_bad_line_leaves_nothing_behind(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", records(9))
    bad = write(tmp_path / "bad.jsonl", [*records(3, seed=1), {"prompt": "p", "scores": {"a": "x"}}])
    assert "bad.jsonl: 1 problem" in refused("import", str(good), str(bad))
    assert data("import", str(good))[0]["rows"] == 9


@pytest.mark.usefixtures("few_seed_prompts")
def test_a_refresh_that_fails_says_why_and_keeps_the_champion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("route", PROMPT)["snapshot"] == 1

    def fail(*args: Any, **options: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("agent.evaluation.challenger.fit", fail)
    monkeypatch.setattr(sys, "argv", ["thalweg", "refresh"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("thalweg: MemoryError: no room")
    assert "Traceback" not in message
    assert [(r["state"], r["reason"]) for r in data("runs", "list")] == [("failed", "MemoryError: no room")]
    assert [(s["version"], s["status"]) for s in data("snapshots", "list")] == [(1, "champion")]


def test_a_refresh_waits_for_the_one_that_another_worker_has(home_database: Database) -> None:
    runs = JobRuns(home_database)
    runs.request("refresh", {}, "server")
    taken = runs.claim(["refresh"], "server")
    assert taken is not None
    with subprocess.Popen([*MAIN, "refresh"], cwd=ROOT, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "another worker has the refreshes" in waiting.stderr.readline()
        runs.fail(taken.id, "gone")
        queued = runs.claim(["refresh"], "server")
        if queued is not None:
            runs.fail(queued.id, "out of luck")
        rest = waiting.stderr.read()
    assert waiting.returncode == 2
    assert "out of luck; the champion serves on" in rest
