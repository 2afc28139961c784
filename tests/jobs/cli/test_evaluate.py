"""`thalweg evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.cli.commands import refused, thalweg
from tests.jobs.made import COSTS, records, write


@pytest.mark.usefixtures("home", "word_encoder")
def test_evaluate_writes_json_and_pictures(tmp_path: Path) -> None:
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
    costs = thalweg("evaluate", "--train", train, "--test", test, "--costs")
    assert "expected against true cost" in costs.stdout and "trained, after" in costs.stdout
    piped = thalweg("evaluate", "--folder", tmp_path / "sets", "--costs", "--json", "-")
    assert set(json.loads(piped.stdout)["sets"]["one"]["states"]["cold"]) == {*COSTS, "all"}
    assert "--train FILE and --test FILE are wanted" in refused("evaluate", "--train", str(train))
    assert "no such file" in refused("evaluate", "--train", str(train), "--test", str(tmp_path / "nowhere.jsonl"))
