"""Names of tasks: the terms that a task uses more than others do, by class-based tf-idf (Grootendorst 2022)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TERM = re.compile(r"[^\W\d_]{3,}", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{2,4}")
_READ = 2000
_STOP = frozenset(
    "the and for you your are with that this from have has was were will would can could should not but its into "
    "which what when where who how why all any each one two than then them they their there these those our his her "
    "him she may must such also only other some more most very over under between about after before does did use "
    "used using given following please write make let".split()
)


def task_names(texts: Sequence[str], labels: NDArray[np.int64], count: int, terms: int = 3) -> tuple[str, ...]:
    """One name for each of ``count`` tasks: its ``terms`` terms of highest score, joined by commas.

    A task without any text (where prompts are not stored) is called ``task`` and its column.
    """
    by_task: list[Counter[str]] = [Counter() for _ in range(count)]
    for text, label in zip(texts, labels):
        head = text[:_READ].lower()
        by_task[label].update({t for t in _TERM.findall(head) if t not in _STOP} | set(_CJK.findall(head)))
    everywhere: Counter[str] = Counter()
    for counter in by_task:
        everywhere.update(counter)
    average = sum(everywhere.values()) / max(count, 1)
    sizes = np.bincount(labels, minlength=count)

    def score(task: int, term: str) -> float:
        frequency = by_task[task][term] / max(int(sizes[task]), 1)
        return float(frequency * np.log1p(average / everywhere[term]))

    names: list[str] = []
    for task in range(count):
        ranked = sorted(by_task[task], key=lambda term: (-score(task, term), term))
        names.append(", ".join(ranked[:terms]) or f"task {task}")
    return tuple(names)
