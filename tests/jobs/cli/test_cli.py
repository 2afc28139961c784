"""The command line: tables for people, JSON for machines, one clear line for mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agent.types import Candidate, Decision, Drift, TaskAssignment, Turn
from jobs.cli import main
from jobs.cli.app import app
from jobs.settings import JobSettings
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.drifts import DriftStore
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import WordEncoder, live, records, write
from tests.jobs.monitor.test_rollback import publish

ROOT = Path(__file__).parents[3]
PROMPT = "Prove that sqrt(2) is irrational"


def thalweg(*args: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], input=stdin)


def data(*args: object) -> Any:
    done = thalweg(*args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*args: object) -> str:
    """The one line that a mistake is told in."""
    done = thalweg(*args)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("thalweg: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def as_process(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=dict(os.environ))


def a_decision(settings: JobSettings, name: str = "d1") -> None:
    database = Database.open(settings.database_url)
    writer = GroupCommitter(database)
    encoded = WordEncoder().encode([(Turn("user", "simmer"),)])[0]
    candidates = tuple(
        Candidate(name, 0.5, 0.1, 0.0, 0.5, p) for name, p in (("openai/gpt-4o", 1.0), ("acme/other", 0.0))
    )
    decision = Decision("openai/gpt-4o", candidates, TaskAssignment(0, "t", 1.0), (), 1, 0, encoded, False, "why")
    DecisionLog(database, writer).append(
        DecisionRecord(id=name, created_at=datetime.now(UTC), decision=decision, encoder="words/v1", prompt="simmer")
    ).result()
    writer.close()
    database.close()


def test_help_comes_quickly(home: Path) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = as_process("--help")
        times.append(time.perf_counter() - started)
        assert done.returncode == 0
    for command in (
        "route",
        "import",
        "refresh",
        "evaluate",
        "models",
        "tasks",
        "drifts",
        "snapshots",
        "feedback",
        "runs",
        "doctor",
    ):
        assert command in done.stdout
    assert "numpy" not in as_process_imports()
    assert min(times) < 1.5, "0.3 s alone; the machine may be busy"


def as_process_imports() -> str:
    """Heavy modules that importing the command line brings in."""
    code = (
        "import sys, jobs.cli.app; print([m for m in ('numpy', 'torch', 'sklearn', 'sqlalchemy') if m in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_mistake_is_one_line_and_code_2_as_a_process_too(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"prompt": "p", "source": "s", "scores": {"a": 3}}])
    done = as_process("import", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 1: key 'scores.a': 3 is out of range" in done.stderr
    assert "Traceback" not in done.stderr
    listed = as_process("models", "list", "--json")
    assert listed.returncode == 0
    assert len(json.loads(listed.stdout)) >= 11


def test_a_fresh_install_routes(home: Path, word_encoder: WordEncoder) -> None:
    routed = data("route", PROMPT)
    assert routed["model"] == routed["candidates"][0]["model"]
    assert routed["why"]
    assert routed["task"]["name"]
    assert len(routed["candidates"]) >= 11
    unavailable = {c["model"]: c["unavailable"] for c in routed["candidates"]}
    assert "OPENAI_API_KEY is not set" in str(unavailable["openai/gpt-4o"])
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
    assert one["models"][0]["mean"] >= one["models"][-1]["mean"]
    assert any(" " in example for example in one["examples"]), "texts of the seed set are known"
    assert "no task 999" in refused("tasks", "show", "999")


def test_bad_requests_are_refused(home: Path, word_encoder: WordEncoder) -> None:
    assert "prompt is empty" in refused("route", "  ")
    assert "--tradeoff is 7" in refused("route", PROMPT, "--tradeoff", "7")
    assert "gpt-4o" in refused("route", PROMPT, "--candidate", "openai/gpt-4oo")


def test_import_refresh_and_roll_back(home: Path, word_encoder: WordEncoder, tmp_path: Path) -> None:
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
    assert gone[0].items() <= one.items() and "models" not in one
    assert one["lineage"][-1]["kind"] in ("merge", "retire") and one["lineage"][-1]["why"] and one["retired_at"]
    assert "snapshot 2" in thalweg("tasks", "show", gone[0]["id"]).stdout
    assert one["name"] in thalweg("tasks", "list", "--retired").stdout
    assert data("snapshots", "rollback")["champion"] == 1
    assert data("route", PROMPT)["snapshot"] == 1
    assert data("snapshots", "promote", "2")["champion"] == 2
    assert "no snapshot 9" in refused("snapshots", "promote", "9")
    for listing in (
        ("snapshots", "list"),
        ("runs", "list"),
        ("tasks", "list"),
        ("models", "list"),
        ("feedback", "list"),
        ("drifts", "list"),
    ):
        shown = thalweg(*listing)
        assert shown.exit_code == 0
        assert shown.stdout.strip()


def test_drifts_are_listed_and_the_doctor_tells_of_them(home: Path, word_encoder: WordEncoder, world: Database) -> None:
    data("route", PROMPT)
    assert data("drifts", "list") == []
    assert "no model has changed silently" in thalweg("drifts", "list").stdout

    def diagnosis() -> dict[str, str]:
        found: list[dict[str, str]] = json.loads(thalweg("doctor", "--json").stdout)
        return next(finding for finding in found if finding["check"] == "drifts")

    assert diagnosis()["state"] == "ok"
    DriftStore(world).record(1, [Drift("openai/gpt-4o", 50, 30, -0.4, "scan")])
    (row,) = data("drifts", "list")
    assert (row["model"], row["position"], row["since"], row["snapshot"]) == ("openai/gpt-4o", 50, 30, 1)
    assert "openai/gpt-4o" in thalweg("drifts", "list").stdout
    assert diagnosis()["state"] == "warn" and diagnosis()["found"] == row["why"]


def test_the_reason_of_a_run_stands_in_the_list(home: Path, world: Database) -> None:
    JobRuns(world).request("refresh", {"why": "a has changed, and 40 scores tell how"}, "timetable")
    assert "timetable: a has changed, and 40 scores tell how" in " ".join(thalweg("runs", "list").stdout.split())


def test_values_and_a_rollback_by_itself_are_told(home: Path, world: Database) -> None:
    snapshots = SnapshotStore(world)
    publish(world, misled=False)
    live(world, publish(world, misled=True), records(200, seed=7))
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
    snapshots.demote(2, 1, "worse live", {"reason": "worse live by 0.2"})
    assert "worse live by 0.2" in thalweg("snapshots", "list").stdout
    assert "no former champion" in refused("snapshots", "rollback")


def test_a_file_with_a_bad_line_leaves_nothing_behind(home: Path, word_encoder: WordEncoder, tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", records(9))
    bad = write(tmp_path / "bad.jsonl", [*records(3, seed=1), {"prompt": "p", "scores": {"a": "x"}}])
    assert "bad.jsonl: 1 problem" in refused("import", str(good), str(bad))
    assert data("import", str(good))[0]["rows"] == 9


def test_a_refresh_that_fails_says_why_and_keeps_the_champion(
    home: Path, word_encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data("route", PROMPT)["snapshot"] == 1

    def fail(*args: Any, **options: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("agent.evaluation.challenger.fit", fail)
    monkeypatch.setattr(sys, "argv", ["thalweg", "refresh"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("thalweg: MemoryError: no room")
    assert "Traceback" not in told
    assert [(r["state"], r["reason"]) for r in data("runs", "list")] == [("failed", "MemoryError: no room")]
    assert [(s["version"], s["status"]) for s in data("snapshots", "list")] == [(1, "champion")]


def test_a_refresh_waits_for_the_one_that_another_worker_has(
    home: Path, word_encoder: WordEncoder, settings: JobSettings, world: Database
) -> None:
    runs = JobRuns(world)
    runs.request("refresh", {}, "server")
    taken = runs.claim(["refresh"], "server")
    assert taken is not None
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "refresh"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "another worker has the refreshes" in waiting.stderr.readline()
        runs.fail(taken.id, "gone")
        queued = runs.claim(["refresh"], "server")
        if queued is not None:
            runs.fail(queued.id, "out of luck")
        rest = waiting.stderr.read()
    assert waiting.returncode == 2
    assert "out of luck; the champion serves on" in rest


def test_models_are_added_changed_and_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_KEY", raising=False)
    endpoint = ("--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "ACME_KEY")
    added = data(
        "models", "add", "acme/one", *endpoint, "--price-input", "1.5", "--prior", "math=0.7", "--capability", "tools"
    )
    assert (added["price_input"], added["priors"], added["capabilities"]) == (1.5, {"math": 0.7}, ["tools"])
    assert added["unavailable"] == "ACME_KEY is not set"
    changed = data("models", "set", "acme/one", "--price-input", "2", "--base-url", "http://127.0.0.1:8/v1")
    assert (changed["price_input"], changed["provider"]["base_url"]) == (2.0, "http://127.0.0.1:8/v1")
    assert changed["provider"]["api_key_env"] == "ACME_KEY"
    assert "holds 'acme/one' already" in refused("models", "add", "acme/one", *endpoint)
    assert thalweg("models", "remove", "acme/one").exit_code == 0
    assert "acme/one" not in {m["name"] for m in data("models", "list")}
    assert "acme/one" in {m["name"] for m in data("models", "list", "--removed")}
    assert "did you mean 'openai/gpt-4o'?" in refused("models", "remove", "openai/gpt-40")
    assert "write axis=0.8" in refused("models", "add", "acme/two", *endpoint, "--prior", "math")
    assert "--base-url is missing" in refused("models", "add", "acme/two")
    assert "nothing to change" in refused("models", "set", "openai/gpt-4o")


def test_a_pool_file_that_is_named_is_read_and_its_typos_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(data("models", "list")) >= 11
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "version: 1\nmodels:\n  - name: acme/one\n    provider: {kind: openai, base_url: http://127.0.0.1:9/v1}\n"
        "    price: {input: 1, output: 2}\n    context: 8192\n"
    )
    monkeypatch.setenv("THALWEG_POOL", str(pool))
    assert [m["name"] for m in data("models", "list")] == ["acme/one"]
    pool.write_text(pool.read_text().replace("price:", "prise:"))
    message = refused("models", "list")
    assert "line 5" in message
    assert "price" in message


def test_feedback_is_added_revised_and_refused(home: Path, settings: JobSettings) -> None:
    a_decision(settings)
    assert data("feedback", "add", "d1", "--score", "0.25") == {
        "status": "recorded",
        "seq": 1,
        "reason": None,
        "param": None,
    }
    assert data("feedback", "add", "d1", "--thumb", "up")["status"] == "revised"
    listed = data("feedback", "list")
    assert [(r["event"]["score"], r["revises"]) for r in listed] == [(1.0, 0.25), (0.25, None)]
    assert "no decision has the id" in refused("feedback", "add", "d2", "--score", "1")
    assert "score is 1.5" in refused("feedback", "add", "d1", "--score", "1.5")
    assert "give either" in refused("feedback", "add", "d1")
    assert "give up or down" in refused("feedback", "add", "d1", "--thumb", "sideways")
    assert "source is 'nobody'" in refused("feedback", "add", "d1", "--score", "1", "--source", "nobody")


def test_comparisons_sources_and_raters(home: Path, settings: JobSettings) -> None:
    assert "no feedback yet" in thalweg("feedback", "sources").stdout
    a_decision(settings)
    other = "acme/other"
    assert "give one of" in refused("feedback", "compare", "d1", "nobody", "tie")
    assert "give decision, other or tie" in refused("feedback", "compare", "d1", other, "both")
    assert "no decision has the id" in refused("feedback", "compare", "d2", other, "tie")
    assert data("feedback", "compare", "d1", other, "other", "--rater", "ann")["status"] == "recorded"
    assert data("feedback", "add", "d1", "--score", "1", "--rater", "ann")["status"] == "recorded"
    assert [(s["source"], s["kind"], s["words"]) for s in data("feedback", "sources")] == [
        ("user", "comparison", 1), ("user", "score", 1),
    ]  # fmt: skip
    assert [(r["rater"], r["words"]) for r in data("feedback", "raters")] == [("ann", 2)]
    assert "ann" in thalweg("feedback", "raters").stdout and "comparison" in thalweg("feedback", "sources").stdout
    assert [r["event"]["other"] for r in data("feedback", "list")] == [None, other]


def test_the_doctor_finds_nothing_wrong_with_a_fresh_home(home: Path) -> None:
    findings = {f["check"]: f for f in data("doctor")}
    assert {"home", "disk", "database", "pool", "keys", "encoder", "local model", "ray", "snapshot", "drifts"} == set(
        findings
    )
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


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("THALWEG_REFRESH_INTERVAL_S", "soon", "THALWEG_REFRESH_INTERVAL_S='soon': give a number of at least 0"),
        ("THALWEG_ENCODER_THREADS", "0", "give a number from 1 to 256"),
        ("THALWEG_STORE_PROMPTS", "some", "THALWEG_STORE_PROMPTS"),
        ("THALWEG_DATABASE_URL", "mysql://x", "THALWEG_DATABASE_URL|no database"),
    ],
)
def test_a_wrong_setting_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert any(part in refused("snapshots", "list") for part in told.split("|"))


def test_evaluate_writes_json_and_pictures(home: Path, word_encoder: WordEncoder, tmp_path: Path) -> None:
    train, test = write(tmp_path / "train.jsonl", records(60)), write(tmp_path / "test.jsonl", records(30, seed=1))
    out = tmp_path / "figures" / "out.json"
    done = thalweg(
        "evaluate", "--train", train, "--test", test, "--json", out, "--plots", tmp_path / "plots"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "two-stage" in done.stdout
    written = json.loads(out.read_text())
    assert written["routers"]["two-stage"]["macro"]["mean"] > written["routers"]["best single"]["macro"]["mean"]
    assert (tmp_path / "plots" / "cost_quality.png").exists()
    piped = thalweg("evaluate", "--folder", tmp_path / "sets", "--json", "-")
    assert piped.exit_code == 2
    write(tmp_path / "sets" / "one" / "train.jsonl", records(30))
    write(tmp_path / "sets" / "one" / "test.jsonl", records(15, seed=1))
    piped = thalweg("evaluate", "--folder", tmp_path / "sets", "--json", "-")
    assert set(json.loads(piped.stdout)["sets"]) == {"one"}
    assert "--train FILE and --test FILE are wanted" in refused("evaluate", "--train", str(train))
    assert "no such file" in refused("evaluate", "--train", str(train), "--test", str(tmp_path / "nowhere.jsonl"))
