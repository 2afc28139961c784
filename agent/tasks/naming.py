"""Names of tasks: the terms that a task uses more than others do, by class-based tf-idf (Grootendorst 2022)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

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

    A task without any term (where prompts are not stored) is called ``task`` and its column.
    """
    names = [f"task {task}" for task in range(count)]
    vectorizer = CountVectorizer(analyzer=_terms, binary=True)
    try:
        uses = vectorizer.fit_transform(texts)  # (n, vocabulary)
    except ValueError:  # the vocabulary is empty
        return tuple(names)
    member = sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), (count, len(labels)))
    by_task, sizes = (member @ uses).tocsr(), np.bincount(labels, minlength=count)
    total = np.asarray(by_task.sum(axis=0))[0]
    weight, vocabulary = np.log1p(total.sum() / count / total), vectorizer.get_feature_names_out()
    for task in range(count):
        row = by_task[task]
        best = np.lexsort((row.indices, -row.data / max(sizes[task], 1) * weight[row.indices]))[:terms]
        names[task] = ", ".join(vocabulary[row.indices[best]]) or names[task]
    return tuple(names)


def _terms(text: str) -> list[str]:
    head = text[:_READ].lower()
    return [term for term in _TERM.findall(head) if term not in _STOP] + _CJK.findall(head)
