"""Published benchmarks in their authors' own formats.

RouterBench (Hu et al. 2024, `withmartian/routerbench`) is a wide table: ``sample_id``, ``prompt`` (the repr of a list of
turns), ``eval_name``, then for each model its score, ``model|model_response`` and ``model|total_cost``. It is published as
a pickle, which is never opened here; the CSV that pandas writes of it is.

LLMRouterBench (2026, `ynulihao/LLMRouterBench`) is a folder ``bench/<dataset>/<split>/<model>/*-<time>.json``, a file for
each model with ``dataset_name``, ``split``, ``model_name``, ``demo`` and ``records`` of ``prompt``, ``score``, ``cost``.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.errors import BadDataFile
from jobs.data.rows import Problems, numbered_lines, row_of
from store.evaluations import EvaluationRow

_COST = "|total_cost"


def read_routerbench(path: Path) -> list[EvaluationRow]:
    """Rows of RouterBench's table, exported as CSV.

    Raises
    ------
    BadDataFile
        Where columns are missing or a cell is wrong; names line and column.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # responses are long
    reader = csv.DictReader(line for _, line in numbered_lines(path))
    columns = reader.fieldnames or []
    models = [c.removesuffix(_COST) for c in columns if c.endswith(_COST) and c.removesuffix(_COST) in columns]
    missing = [c for c in ("prompt", "eval_name") if c not in columns]
    if missing or not models:
        wanted = ", ".join(missing) or "a pair of columns 'MODEL' and 'MODEL|total_cost'"
        raise BadDataFile(f"{path}: line 1: not RouterBench's table, {wanted} is missing", param=str(path))
    problems = Problems(path)
    rows: list[EvaluationRow] = []
    try:
        for cells in reader:
            line = f"line {reader.line_num}"
            record = {
                "prompt": _turns(cells["prompt"] or ""),
                "source": cells["eval_name"] or "",
                "scores": {m: _cell(cells[m], f"{line}, column {m!r}", problems) for m in models},
                "costs": {m: _cell(cells[m + _COST], f"{line}, column '{m}{_COST}'", problems) for m in models},
            }
            row = row_of(record, partial(problems.add, line))
            if row is not None:
                rows.append(row)
    except csv.Error as error:
        problems.add(f"line {reader.line_num}", f"not CSV ({error})")
    problems.check()
    return rows


def _turns(text: str) -> str:
    """RouterBench stores a prompt as the repr of a list of turns; anything else is the prompt itself."""
    if text.startswith("["):
        try:
            turns = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if isinstance(turns, list):
            return "\n\n".join(str(turn) for turn in turns)
    return text


def _cell(text: str | None, where: str, problems: Problems) -> float:
    if not text or not text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError:
        problems.add(where, f"a number is wanted, found {text[:40]!r}")
        return math.nan


def read_llmrouterbench(path: Path) -> list[EvaluationRow]:
    """Rows of LLMRouterBench's result files, joined over models by data set, split and prompt.

    The latest file of each data set, split and model is taken, demo runs are left out, a score of null was not observed.

    Parameters
    ----------
    path
        A result file, or a folder that is searched for them.

    Raises
    ------
    BadDataFile
        Where a file is not of that format or a record is wrong; names file, record and key.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    latest: dict[tuple[str, str, str], tuple[Path, list[Any]]] = {}
    for file in sorted(files, key=lambda f: f.stem.rsplit("-", 1)[-1]):
        result = _result(file)
        if not result.get("demo", False):
            key = (str(result["dataset_name"]), str(result["split"]), str(result["model_name"]))
            latest[key] = (file, result["records"])
    joined: dict[tuple[str, str, str], EvaluationRow] = {}
    for (dataset, split, model), (file, records) in latest.items():
        problems = Problems(file)
        _join(joined, dataset, split, model, records, problems)
        problems.check()
    return list(joined.values())


def _result(file: Path) -> dict[str, Any]:
    try:
        result = json.loads("".join(line for _, line in numbered_lines(file)))
    except json.JSONDecodeError as error:
        raise BadDataFile(f"{file}: line {error.lineno}: not JSON ({error.msg})", param=str(file)) from error
    wanted = {"dataset_name": str, "split": str, "model_name": str, "records": list}
    wrong = [k for k, kind in wanted.items() if not isinstance(result, dict) or not isinstance(result.get(k), kind)]
    if wrong:
        raise BadDataFile(
            f"{file}: not a result file of LLMRouterBench, {', '.join(map(repr, wrong))} is missing or of the wrong type; "
            "for Thalweg's own format, one JSON object a line, name the file .jsonl",
            param=str(file),
        )
    return dict(result)


def _join(
    joined: dict[tuple[str, str, str], EvaluationRow],
    dataset: str,
    split: str,
    model: str,
    records: list[Any],
    problems: Problems,
) -> None:
    """Add one model's records to the rows that they belong to."""
    for i, record in enumerate(records):
        where = f"records[{i}]"
        if not isinstance(record, dict):
            problems.add(where, "a JSON object is wanted")
            continue
        score = record.get("score")
        if score is None or (isinstance(score, float) and math.isnan(score)):
            continue
        one = {
            "prompt": record.get("prompt") or record.get("origin_query"),
            "source": dataset,
            "scores": {model: score},
            "costs": {model: record.get("cost")},
        }
        row = row_of(one, partial(problems.add, where))
        if row is not None:
            so_far = joined.get((dataset, split, row.prompt), row)
            joined[dataset, split, row.prompt] = replace(
                row, scores={**so_far.scores, **row.scores}, costs={**so_far.costs, **row.costs}
            )
