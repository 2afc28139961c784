"""Heads that tasks inherit from the champion's tasks that they descend from, and the report of what became of them.

Trunk and inputs change from one snapshot to the next, so a head is carried over as a function: the parents' heads are evaluated
on the task's prompts, averaged by the scores behind each parent, and projected on the new inputs by least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.experts.task_heads import Start, TaskHeads
from agent.snapshot import GENERAL, Snapshot
from agent.tasks.lineage import Lineage
from agent.types import Array


def inherit(
    champion: Snapshot,
    read: Callable[[NDArray[np.int64]], Array],
    origins: Sequence[tuple[int, ...]],
    labels: NDArray[np.int64],
    inputs: Array,
    models: Sequence[str],
    new: NDArray[np.bool_],
) -> Start:
    """The heads that each task may start from.

    Parameters
    ----------
    read
        Inputs (p, c) of the champion's task heads on the prompts of some rows (p,).
    origins
        By task, ids of the champion's tasks that it descends from; those without heads count as heads of 0.
    labels, inputs
        (n,) tasks and (n, q) inputs of task heads of the training prompts.
    models
        Columns of the heads.
    new
        (n,) prompts whose scores the champion did not know.
    """
    column = {name: i for i, name in enumerate(models)}
    heads: dict[int, list[tuple[int, Array]]] = {}
    for head in champion.heads:
        off = (head.task, head.model) in champion.heads_off
        if head.task != GENERAL and head.model in column and not off:
            heads.setdefault(head.task, []).append((column[head.model], head.tensors["weight"]))
    evidence = {task.id: row for task, row in zip(champion.tasks, champion.tensors["task_n_scores"])}
    theirs = {name: i for i, name in enumerate(champion.models)}
    start = np.zeros((len(origins), inputs.shape[1], len(models)))
    for task, parents in enumerate(origins):
        rows = np.flatnonzero(labels == task)
        if not len(rows) or not any(parent in heads for parent in parents):
            continue
        given, values = read(rows), np.zeros((len(rows), len(models)))
        for parent in parents:
            for j, weight in heads.get(parent, ()):
                known = np.array([evidence[p][theirs[models[j]]] for p in parents])
                share = evidence[parent][theirs[models[j]]] / known.sum() if known.sum() > 0.0 else 1.0 / len(parents)
                values[:, j] += share * (given @ weight)
        start[task] = np.linalg.lstsq(inputs[rows], values, rcond=None)[0]
    return Start(start, new)


def report_heads(
    lineage: Lineage,
    heads: TaskHeads,
    start: Start | None,
    candidates: Sequence[tuple[int, ...]],
    champion: Snapshot | None,
) -> list[dict[str, Any]]:
    """What became of the heads of each task, and of those of the champion's tasks that no task continues, as JSON."""
    kinds = {event.task: event.kind for event in lineage.events if event.kind in ("keep", "spawn")}
    given = np.zeros(len(lineage.ids), bool) if start is None else start.given
    rows: list[dict[str, Any]] = []
    for t, task in enumerate(lineage.ids):
        alpha, parents = float(heads.alpha[t]), list(lineage.origins[t])
        named, stored = " and ".join(map(str, parents)), len(candidates[t]) if alpha else 0
        if not stored:
            why = "not stored: what they gain out of fold is within its standard error, or that of all tasks within two"
        elif heads.inherited[t]:
            why = f"started from the heads of task {named}, which do better on prompts new since then"
        elif given[t]:
            why = f"fitted anew: those of task {named} do no better on prompts new since then"
        else:
            why = "fitted anew" + (f": task {named} had none" if parents else "")
        rows.append({"task": task, "kind": kinds.get(task, "spawn"), "parents": parents, "inherited": bool(heads.inherited[t]),
                     "alpha": round(alpha, 4), "heads": stored, "why": why})  # fmt: skip
    for event in lineage.events:
        if event.kind in ("merge", "retire") and champion is not None:
            into = f"merged into task {event.parents[0]}" if event.kind == "merge" else "retired"
            old = sum(head.task == event.task for head in champion.heads)
            rows.append({"task": event.task, "kind": event.kind, "parents": [], "inherited": False, "alpha": 0.0, "heads": 0,
                         "why": f"{into}; its {old} heads stay readable in snapshot {champion.version}"})  # fmt: skip
    return rows
