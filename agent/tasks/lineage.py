"""Stable task ids: new communities are matched with the champion's tasks on the prompts that belong to both.

A community *keeps* the id of the task that it overlaps most (one to one, greatest Jaccard overlap first). Any other is a
*spawn* of the task that most of its prompts belonged to. An old task that no community continues has *merged* into the
one that holds most of it, or *retires* where none holds enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.snapshot import LineageEvent

KEEP_OVERLAP = 0.25
"""Least Jaccard overlap at which a community continues an old task."""

MERGE_SHARE = 0.4
"""Least share of an old task's prompts that one community must hold for the task to have merged into it."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """By community, its stable id and its parents; and what became of every old and new task."""

    ids: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    events: tuple[LineageEvent, ...]

    @property
    def origins(self) -> tuple[tuple[int, ...], ...]:
        """By community, the champion's tasks that it descends from: the one that it keeps or split from, and those merged
        into it."""
        first = {event.task: event.parents for event in self.events if event.kind in ("keep", "spawn")}
        merged = [(event.parents[0], event.task) for event in self.events if event.kind == "merge"]
        return tuple(
            (*first.get(task, ()), *(was for into, was in merged if into == task and was not in first.get(task, ())))
            for task in self.ids
        )


def match(
    communities: NDArray[np.int64], old_tasks: NDArray[np.int64], old_ids: Sequence[int], next_id: int
) -> Lineage:
    """Give every community a stable id.

    ``communities`` (n,) are new communities of the prompts, 0..C-1; ``old_tasks`` (n,) ids of the champion's tasks of the same
    prompts, any outside ``old_ids`` meaning none; ``next_id`` is the first id that was never assigned.
    """
    count = int(communities.max()) + 1 if len(communities) else 0
    column = {task: i for i, task in enumerate(old_ids)}
    old = np.array([column.get(int(t), -1) for t in old_tasks], np.int64)
    shared = np.zeros((count, len(old_ids)), np.int64)
    np.add.at(shared, (communities[old >= 0], old[old >= 0]), 1)
    size_new = np.bincount(communities, minlength=count)
    size_known = np.bincount(communities[old >= 0], minlength=count)
    size_old = np.bincount(old[old >= 0], minlength=len(old_ids))
    jaccard = shared / np.maximum(size_known[:, None] + size_old[None, :] - shared, 1)

    ids = [-1] * count
    kept: dict[int, int] = {}
    for flat in np.argsort(-jaccard, axis=None, kind="stable"):
        new, was = (int(i) for i in np.unravel_index(flat, jaccard.shape))
        if jaccard[new, was] < KEEP_OVERLAP:
            break
        if ids[new] < 0 and was not in kept:
            ids[new], kept[was] = old_ids[was], new

    parents: list[tuple[int, ...]] = []
    events: list[LineageEvent] = []
    for new in range(count):
        figures = {"prompts": float(size_new[new])}
        if ids[new] >= 0:
            figures["overlap"] = float(jaccard[new, column[ids[new]]])
            parents.append(())
            events.append(LineageEvent("keep", ids[new], (ids[new],), figures))
            continue
        ids[new], next_id = next_id, next_id + 1
        origin: tuple[int, ...] = ()
        if len(old_ids) and shared[new].any():
            parent = int(shared[new].argmax())
            origin = (old_ids[parent],)
            figures["share_from_parent"] = float(shared[new, parent] / size_new[new])
        parents.append(origin)
        events.append(LineageEvent("spawn", ids[new], origin, figures))
    for was, task in enumerate(old_ids):
        if was in kept:
            continue
        share = shared[:, was] / max(size_old[was], 1) if count else np.zeros(0)
        successor = int(share.argmax()) if len(share) else -1
        if successor >= 0 and share[successor] >= MERGE_SHARE:
            events.append(LineageEvent("merge", task, (ids[successor],), {"share": float(share[successor])}))
        else:
            events.append(LineageEvent("retire", task, (), {"prompts": float(size_old[was])}))
    return Lineage(tuple(ids), tuple(parents), tuple(events))
