"""Files of scored prompts: read whole, checked line by line, and either right or refused with every bad line named.

The format is one JSON object a line, plain or gzipped: ``{"prompt": str, "source": str, "task"?: str,
"scores": {model: 0..1 or null}, "costs"?: {model: USD or null}}``. A score that is missing, null or NaN was not observed.
Two benchmarks' own formats are read too, see `jobs.data.benchmarks`.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from agent.errors import BadDataFile
from jobs.data import benchmarks
from jobs.data.rows import Problems, numbered_lines, row_of
from store.evaluations import EvaluationRow


def read(path: Path) -> list[EvaluationRow]:
    """Every row of a data file, in any of the formats known.

    Parameters
    ----------
    path
        ``.jsonl`` or ``.jsonl.gz``; RouterBench exported as ``.csv`` or ``.csv.gz``; a file or folder of
        LLMRouterBench's results.

    Raises
    ------
    BadDataFile
        Where the file is missing, damaged, of another format, or has a wrong line; names each.
    """
    if not path.exists():
        raise BadDataFile(f"{path}: no such file", param=str(path))
    suffixes = [s for s in path.suffixes if s != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if path.is_dir() or kind == ".json":
        rows = benchmarks.read_llmrouterbench(path)
    elif kind == ".csv":
        rows = benchmarks.read_routerbench(path)
    elif kind in (".pkl", ".pickle"):
        raise BadDataFile(
            f"{path}: a pickle can run code when it is opened, so it is never read; export it once where you trust it: "
            "pandas.read_pickle(path).to_csv('routerbench.csv', index=False), then import the CSV",
            param=str(path),
        )
    else:
        rows = read_jsonl(path)
    if not rows:
        raise BadDataFile(f"{path}: holds no rows", param=str(path))
    return rows


def read_jsonl(path: Path) -> list[EvaluationRow]:
    """Every row of a ``.jsonl`` or ``.jsonl.gz`` file."""
    problems = Problems(path)
    rows: list[EvaluationRow] = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            problems.add(
                f"line {number}", f"not JSON ({error.msg} at column {error.colno}); one object a line is wanted"
            )
            continue
        row = row_of(record, partial(problems.add, f"line {number}"))
        if row is not None:
            rows.append(row)
    problems.check()
    return rows
