"""Rows of scored prompts, checked one by one: a file is either right or refused with every bad line named.

Thalweg's own format is one JSON object a line, plain or gzipped: ``{"prompt": str, "source": str, "task"?: str,
"scores": {model: 0..1 or null}, "costs"?: {model: USD or null}, "reference"?: {"kind": "exact" | "numeric" | "choice" | "json",
"value", "tolerance"?}}``. A score that is missing, null or NaN was not observed; with a reference, the right answer
(`agent.evaluation.reference`), there may be none.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agent.errors import BadDataFile, InvalidInput, did_you_mean
from agent.evaluation.reference import Reference
from store.evaluations import EvaluationRow

MAX_SHOWN = 20
"""Problems that one error message lists; the rest are counted."""
KEYS = ("prompt", "source", "task", "scores", "costs", "reference")


class Problems:
    """Collects what is wrong with a file, to be raised as one `BadDataFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: list[str] = []
        self._count = 0

    def add(self, where: str, what: str) -> None:
        """Note one problem, ``where`` being a line or a record."""
        self._count += 1
        if len(self._shown) < MAX_SHOWN:
            self._shown.append(f"{where}: {what}")

    def check(self) -> None:
        """Raise `BadDataFile` if anything was noted."""
        if not self._count:
            return
        more = f"\n  ... and {self._count - len(self._shown)} more" if self._count > len(self._shown) else ""
        plural = "problem" if self._count == 1 else "problems"
        lines = "".join(f"\n  {line}" for line in self._shown)
        raise BadDataFile(
            f"{self._path}: {self._count} {plural}; nothing was taken from this file{lines}{more}",
            param=str(self._path),
        )


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file with their numbers from 1, gunzipped by content; damage becomes `BadDataFile`."""
    number = 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadDataFile(
            f"{path}: damaged gzip after line {number} ({error}); fetch or write the file again", param=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise BadDataFile(
            f"{path}: line {number} is not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8",
            param=str(path),
        ) from error
    except OSError as error:
        raise BadDataFile(f"{path}: cannot be read ({error.strerror or error})", param=str(path)) from error


def read_jsonl(path: Path) -> list[EvaluationRow]:
    """Every row of a ``.jsonl`` or ``.jsonl.gz`` file; raises `BadDataFile` that lists every bad line."""
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


def row_of(record: Any, problem: Callable[[str], None]) -> EvaluationRow | None:
    """The row of a decoded JSON value, or None after every problem in it was reported."""
    if not isinstance(record, dict):
        problem(f"a JSON object is wanted, found {_name(record)}")
        return None
    found: list[str] = []
    for key in record:
        if key not in KEYS:
            found.append(f"unknown key {key!r}{_suggest(key)}")
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        found.append(f"key 'prompt': a text that is not empty is wanted, found {_name(prompt)}")
    source = record.get("source", "")
    if not isinstance(source, str):
        found.append(f"key 'source': a text is wanted, found {_name(source)}")
    task = record.get("task")
    if task is not None and not isinstance(task, str):
        found.append(f"key 'task': a text is wanted, found {_name(task)}")
    given = record.get("reference")
    reference = None if given is None else _reference(given, found.append)
    scores = _numbers(record.get("scores", None if given is None else {}), "scores", found.append, most=1.0)
    costs = _numbers(record.get("costs", {}), "costs", found.append, most=math.inf)
    if not found and not scores and reference is None:
        found.append("key 'scores': at least one model's score is wanted, or a 'reference'")
    for what in found:
        problem(what)
    if found:
        return None
    return EvaluationRow(prompt=str(prompt), source=source, task=task, scores=scores, costs=costs, reference=reference)


def _reference(value: Any, problem: Callable[[str], None]) -> Reference | None:
    try:
        return Reference.of(value)
    except InvalidInput as error:
        problem(f"key {error.message}")
        return None


def _numbers(value: Any, key: str, problem: Callable[[str], None], *, most: float) -> dict[str, float]:
    """The finite numbers of ``{model: number}``; null and NaN are left out, anything else is a problem."""
    if not isinstance(value, dict):
        problem(f"key {key!r}: an object {{model: number}} is wanted, found {_name(value)}")
        return {}
    kept: dict[str, float] = {}
    for model, number in value.items():
        if number is None or (isinstance(number, float) and math.isnan(number)):
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            problem(f"key '{key}.{model}': a number is wanted, found {_name(number)}")
        elif not 0.0 <= number <= most or math.isinf(number):
            fix = "scale scores to 0..1" if key == "scores" else "costs are USD, zero or more"
            problem(f"key '{key}.{model}': {number:g} is out of range; {fix}")
        else:
            kept[model] = float(number)
    return kept


def _name(value: Any) -> str:
    if value is None:
        return "nothing"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _suggest(key: str) -> str:
    return did_you_mean(key, KEYS) or f"; known keys are {', '.join(KEYS)}"
