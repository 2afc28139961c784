"""The command line as a whole: help, exit codes, one clear line for a mistake, settings, the doctor."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.observations import Drift, SetAside
from store.database import Database
from store.drifts import DriftStore
from store.feedback import FeedbackEvent
from store.set_aside import SetAsideStore
from tests.jobs.cli.commands import ROOT, as_process, data, refused, thalweg
from tests.jobs.made import give_feedback, record_decision, write


def test_help_comes_quickly(home: Path) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = as_process("--help")
        times.append(time.perf_counter() - started)
        assert done.returncode == 0
    commands = "route import refresh evaluate replay models tasks drifts snapshots feedback runs doctor"
    assert all(command in done.stdout for command in commands.split())
    code = (
        "import sys, jobs.cli.app; print([m for m in ('numpy', 'torch', 'sklearn', 'sqlalchemy') if m in sys.modules])"
    )
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert imported.stdout.strip() == "[]"
    assert min(times) < 1.5, "0.3 s alone; the machine may be busy"


def test_a_mistake_is_one_line_and_code_2_as_a_process_too(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"prompt": "p", "source": "s", "scores": {"a": 3}}])
    done = as_process("import", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 1: key 'scores.a': 3 is out of range" in done.stderr
    assert "Traceback" not in done.stderr
    listed = as_process("models", "list", "--json")
    assert listed.returncode == 0
    assert len(json.loads(listed.stdout)) >= 11


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("THALWEG_REFRESH_SCHEDULE", "soon", "THALWEG_REFRESH_SCHEDULE='soon': give an interval ('interval: 90s'"),
        ("THALWEG_ENCODER_THREADS", "0", "give a whole number from 1 to 256"),
        ("THALWEG_STORE_PROMPTS", "some", "THALWEG_STORE_PROMPTS"),
        ("THALWEG_DATABASE_URL", "mysql://x", "THALWEG_DATABASE_URL|no database"),
    ],
)
def test_a_wrong_setting_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert any(part in refused("snapshots", "list") for part in message.split("|"))


def test_the_doctor_finds_nothing_wrong_with_a_fresh_home(home: Path) -> None:
    findings = {f["check"]: f for f in data("doctor")}
    checks = {
        "home",
        "disk",
        "database",
        "pool",
        "keys",
        "encoder",
        "local model",
        "ray",
        "snapshot",
        "drifts",
        "feedback",
    }
    assert set(findings) == checks
    assert all(f["state"] != "fail" for f in findings.values()), findings
    assert all(f["fix"] for f in findings.values() if f["state"] != "ok")


def test_the_doctor_says_what_is_wrong_and_exits_with_1(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, it only looks like a file of some length " * 40)
    monkeypatch.setenv("THALWEG_DATABASE_URL", f"sqlite:///{broken}")
    done = thalweg("doctor", "--json")
    assert done.exit_code == 1
    findings = {f["check"]: f for f in json.loads(done.stdout)}
    assert findings["database"]["state"] == "fail"
    assert "not a database" in findings["database"]["found"]
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("word_encoder", "few_seed_prompts")
def test_drifts_are_listed_and_the_doctor_warns_of_them(home_database: Database) -> None:
    data("route", "Prove that sqrt(2) is irrational")
    assert data("drifts", "list") == []
    assert "no model has changed silently" in thalweg("drifts", "list").stdout

    def diagnosis() -> dict[str, str]:
        found: list[dict[str, str]] = json.loads(thalweg("doctor", "--json").stdout)
        return next(finding for finding in found if finding["check"] == "drifts")

    assert diagnosis()["state"] == "ok"
    DriftStore(home_database).record(1, [Drift("openai/gpt-4o", 50, 30, -0.4, "scan")])
    (row,) = data("drifts", "list")
    assert (row["model"], row["position"], row["since"], row["snapshot"]) == ("openai/gpt-4o", 50, 30, 1)
    assert "openai/gpt-4o" in thalweg("drifts", "list").stdout
    assert diagnosis()["state"] == "warn" and diagnosis()["found"] == row["why"]


def test_rows_that_were_set_aside_are_listed_and_the_doctor_warns_of_them(home_database: Database) -> None:
    record_decision(home_database, "d1", {"chef": 1.0})
    give_feedback(home_database, FeedbackEvent("d1", 1.0, "user", "ann"))
    SetAsideStore(home_database).record(1, [SetAside(1, "its prompt was encoded by another")])
    (row,) = data("feedback", "set-aside")
    assert (row["seq"], row["reason"], row["decision_id"]) == (1, "its prompt was encoded by another", "d1")
    assert "encoded by another" in " ".join(thalweg("feedback", "set-aside").stdout.split())
    found: list[dict[str, str]] = json.loads(thalweg("doctor", "--json").stdout)
    diagnosis = next(finding for finding in found if finding["check"] == "feedback")
    assert diagnosis["state"] == "warn" and "1 row " in diagnosis["found"] and "set-aside" in diagnosis["fix"]
