"""A data file is read whole or refused with every bad line named, and imported once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import BadDataFile
from jobs.data.files import load, read, store_file
from store.database import Database
from tests.jobs.made import WordEncoder, records, write

GOOD: dict[str, Any] = {"prompt": "2 + 2?", "source": "sums", "scores": {"a": 1.0, "b": 0}}


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_reads_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    rows = read(write(tmp_path / name, [GOOD, GOOD | {"task": "add", "costs": {"a": 0.5, "b": None}}]))
    assert [r.task for r in rows] == [None, "add"]
    assert rows[0].scores == {"a": 1.0, "b": 0.0}
    assert rows[1].costs == {"a": 0.5}


def test_a_score_of_null_or_nan_was_not_observed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "p", "source": "s", "scores": {"a": NaN, "b": null, "c": 0.5}}\n\n')
    assert read(path)[0].scores == {"c": 0.5}


def test_every_bad_line_is_named_with_its_key_and_what_to_do(tmp_path: Path) -> None:
    bad: list[Any] = [
        GOOD,
        GOOD | {"scores": {"a": 7.0}},
        GOOD | {"prompt": ""},
        {k: v for k, v in GOOD.items() if k != "scores"},
        GOOD | {"score": 1.0},
        GOOD | {"scores": {"a": "high"}},
        GOOD | {"costs": {"a": -1}},
        [1, 2],
    ]
    path = write(tmp_path / "x.jsonl", bad)
    with path.open("a") as file:
        file.write('{"prompt": "cut off\n')
    with pytest.raises(BadDataFile) as caught:
        read(path)
    message = caught.value.message
    for problem in (
        "8 problems",
        "line 2: key 'scores.a': 7 is out of range; scale scores to 0..1",
        "line 3: key 'prompt'",
        "line 4: key 'scores'",
        "line 5: unknown key 'score'; did you mean 'scores'?",
        "line 6: key 'scores.a': a number is wanted, found \"high\"",
        "line 7: key 'costs.a'",
        "line 8: a JSON object is wanted",
        "line 9: not JSON",
    ):
        assert problem in message
    assert "line 1:" not in message


def test_many_problems_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(BadDataFile, match=r"100 problems(.|\n)*and 80 more"):
        read(write(tmp_path / "x.jsonl", [GOOD | {"prompt": ""}] * 100))


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = write(path, records(200)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDataFile, match=r"damaged gzip after line \d+"):
        read(path)


def test_a_corrupt_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = bytearray(write(path, records(200)).read_bytes())
    whole[100:140] = bytes(40)
    path.write_bytes(whole)
    with pytest.raises(BadDataFile, match="damaged gzip|not UTF-8|not JSON"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jsonl", b"", "holds no rows"),
        ("x.jsonl", b'{"prompt": "\xff"}\n', "line 1 is not UTF-8"),
        ("x.pkl", b"\x80\x04.", "a pickle can run code"),
        ("x.json", b'{"a": 1}', "not a result file of LLMRouterBench"),
        ("x.json", b"{", "line 1: not JSON"),
        ("x.csv", b"prompt,model\nhi,1\n", "not RouterBench's table"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadDataFile) as caught:
        read(path)
    assert reason in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataFile, match="no such file"):
        read(tmp_path / "nowhere.jsonl")


def test_routerbench_as_pandas_exports_it(tmp_path: Path) -> None:
    header = "sample_id,prompt,eval_name,claude-v2,mistralai/mixtral,claude-v2|model_response,mistralai/mixtral|model_response,"
    header += "claude-v2|total_cost,mistralai/mixtral|total_cost,oracle_model_to_route_to\n"
    lines = (
        "mmlu.1,\"['Pick one.\\nA) x\\nB) \"\"y\"\"']\",mmlu,1.0,0.0,['A'],['B'],0.00075,2e-05,claude-v2\n"
        "mtbench.1,\"['First turn', 'Second turn']\",mtbench,,0.8,[''],['ok'],,3e-05,mistralai/mixtral\n"
    )
    path = tmp_path / "routerbench_0shot.csv.gz"
    path.write_bytes(gzip.compress((header + lines).encode()))
    first, second = read(path)
    assert first.prompt == 'Pick one.\nA) x\nB) "y"'
    assert (first.source, first.scores) == ("mmlu", {"claude-v2": 1.0, "mistralai/mixtral": 0.0})
    assert first.costs == {"claude-v2": 0.00075, "mistralai/mixtral": 2e-05}
    assert second.prompt == "First turn\n\nSecond turn"
    assert second.scores == {"mistralai/mixtral": 0.8}


def test_a_bad_cell_of_routerbench_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("prompt,eval_name,m,m|total_cost\nhi,e,yes,0.1\nho,e,1,0.1\n")
    with pytest.raises(BadDataFile, match="line 2, column 'm': a number is wanted, found 'yes'"):
        read(path)


def test_llmrouterbench_joins_models_and_takes_the_latest_run(tmp_path: Path) -> None:
    def result(model: str, time: str, score: float | None, demo: bool = False) -> None:
        folder = tmp_path / "bench" / "aime" / "test" / model
        folder.mkdir(parents=True, exist_ok=True)
        record = {"index": 1, "origin_query": "2+2", "prompt": "Question: 2+2", "score": score, "cost": 0.001}
        other = record | {"index": 2, "prompt": "Question: 3+3", "score": 0.0}
        content = {
            "dataset_name": "aime",
            "split": "test",
            "model_name": model,
            "demo": demo,
            "records": [record, other],
        }
        (folder / f"aime-test-{model}-{time}.json").write_text(json.dumps(content))

    result("gpt-5", "20250101_000000", 0.0)
    result("gpt-5", "20250301_000000", 1.0)
    result("qwen3-8b", "20250201_000000", None)
    result("toy", "20250401_000000", 1.0, demo=True)
    rows = {r.prompt: r for r in read(tmp_path / "bench")}
    assert rows["Question: 2+2"].scores == {"gpt-5": 1.0}
    assert rows["Question: 3+3"].scores == {"gpt-5": 0.0, "qwen3-8b": 0.0}
    assert rows["Question: 3+3"].source == "aime"


def test_importing_twice_changes_nothing(home_database: Database, tmp_path: Path) -> None:
    file = load(write(tmp_path / "made" / "train.jsonl", records(30)))
    assert (file.dataset, file.split) == ("made", "train")
    done: list[int] = []
    first = store_file(file, home_database, WordEncoder(), progress=done.append)
    assert (first.rows, first.new_prompts, first.scores, first.duplicates, done) == (30, 30, 120, 0, [30])
    again = store_file(file, home_database, WordEncoder())
    assert (again.rows, again.new_prompts, again.scores, again.duplicates) == (0, 0, 0, 30)


def test_a_row_may_have_a_reference_and_then_no_scores(tmp_path: Path) -> None:
    reference = {"kind": "numeric", "value": 4, "tolerance": 0.5}
    path = write(tmp_path / "x.jsonl", [GOOD | {"reference": reference}, {"prompt": "3 + 3?", "reference": reference}])
    found = load(path).rows
    assert [row.reference and row.reference.as_json() for row in found] == [reference, reference]
    assert [dict(row.scores) for row in found] == [GOOD["scores"], {}]
    assert len(read(path)) == 1, "what is not scored cannot be replayed"
    with pytest.raises(BadDataFile, match="holds no scores"):
        read(write(tmp_path / "y.jsonl", [{"prompt": "3 + 3?", "reference": reference}]))
    with pytest.raises(BadDataFile, match=r"line 1: key reference\.value: give a finite number, not 'four'"):
        load(write(tmp_path / "z.jsonl", [GOOD | {"reference": {"kind": "numeric", "value": "four"}}]))
