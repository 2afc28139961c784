"""Scored prompts as arrays, for training and for measuring routers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import InvalidInput
from agent.types import Array, Encoded
from store.evaluations import EvaluationRow


@dataclass(frozen=True, slots=True)
class Table:
    """n prompts, m models.

    Parameters
    ----------
    prompts
        n texts; may repeat in a test table, never in a training table (see `merge_duplicates`).
    sources, tasks
        n true labels, for per-source figures and the label control; "" where a prompt has no task label.
    embeddings, features
        (n, d) unit vectors; (n, f).
    scores, costs
        (n, m), NaN where not known.
    models
        m names.
    """

    prompts: tuple[str, ...]
    sources: NDArray[np.str_]
    tasks: NDArray[np.str_]
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    scores: Array
    costs: Array
    models: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def labels(self) -> NDArray[np.str_]:
        """The tasks where every prompt has one, else the sources."""
        return self.tasks if len(self) and (self.tasks != "").all() else self.sources

    @property
    def has_costs(self) -> bool:
        """Whether any cost is known."""
        return bool(np.isfinite(self.costs).any())

    def take(self, rows: NDArray[np.intp]) -> Table:
        """The table of these rows."""
        arrays: dict[str, Any] = {
            name: getattr(self, name)[rows]
            for name in ("sources", "tasks", "embeddings", "features", "scores", "costs")
        }
        return replace(self, prompts=tuple(self.prompts[i] for i in rows), **arrays)


def build(rows: Sequence[EvaluationRow], encoded: Sequence[Encoded], models: Sequence[str]) -> Table:
    """A `Table` of ``rows`` and their encodings; ``models`` are its columns."""
    return Table(
        tuple(row.prompt for row in rows),
        np.array([row.source for row in rows], np.str_),
        np.array([row.task or "" for row in rows], np.str_),
        np.stack([e.embedding for e in encoded]).astype(np.float32),
        np.stack([e.features for e in encoded]).astype(np.float32),
        np.array([[row.scores.get(m, np.nan) for m in models] for row in rows], np.float64),
        np.array([[row.costs.get(m, np.nan) for m in models] for row in rows], np.float64),
        tuple(models),
    )


def merge_duplicates(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """One row a prompt; the scores and costs of its repeats are averaged, the first labels kept."""
    groups: dict[str, list[EvaluationRow]] = {}
    for row in rows:
        groups.setdefault(row.prompt, []).append(row)
    return [
        replace(group[0], scores=_means([r.scores for r in group]), costs=_means([r.costs for r in group]))
        if len(group) > 1
        else group[0]
        for group in groups.values()
    ]


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    models = dict.fromkeys(m for row in rows for m in row)
    return {m: float(np.mean([row[m] for row in rows if m in row])) for m in models}


def align(
    train: Sequence[EvaluationRow], test: Sequence[EvaluationRow]
) -> tuple[list[EvaluationRow], list[EvaluationRow], list[str], list[str]]:
    """Prepare two files for one comparison.

    Returns
    -------
    tuple
        Training rows without repeats, test rows with a score, the models (those of training first, by name),
        and notes on peculiarities of the data.

    Raises
    ------
    InvalidInput
        Where nothing is left to train on or to route.
    """
    merged = merge_duplicates(train)
    scored = [row for row in test if row.scores]
    if not merged or not scored:
        side = "training" if not merged else "test"
        raise InvalidInput(f"the {side} file holds no prompt with a score", param=side)
    known = sorted({m for row in merged for m in row.scores})
    unseen = sorted({m for row in scored for m in row.scores} - set(known))
    models = known + unseen
    notes: list[str] = []
    if len(merged) < len(train):
        notes.append(f"{len(train) - len(merged)} repeated training prompts: their scores are averaged")
    repeats = sum(count - 1 for count in Counter(row.prompt for row in scored).values())
    if repeats:
        notes.append(f"{repeats} repeated test prompts: each counts as given")
    overlap = len({row.prompt for row in merged} & {row.prompt for row in scored})
    if overlap:
        notes.append(f"{overlap} test prompts are also in the training file: results on them mean little")
    if unseen:
        notes.append(f"models that training never saw are routed by their prior alone: {', '.join(unseen)}")
    if len(models) == 1:
        notes.append(f"only one model ({models[0]}): every router chooses it")
    holes = sum(len(models) - len(row.scores) for row in scored)
    if holes:
        notes.append(
            f"{holes} of {len(scored) * len(models)} test scores are missing: each prompt is routed among its scored models"
        )
    return merged, scored, models, notes
