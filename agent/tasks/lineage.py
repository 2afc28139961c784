"""How tasks live on: new communities are matched to the champion's tasks, so that experts keep their ids.

Each community is compared with each old task on the prompts that both know. It *keeps* the id of the task that it
shares most with (one to one, best overlap first); a community left over is a *spawn*, born from the task most of its
prompts came from; an old task left over has *merged* into the community that took most of it, or *retires* when none did.
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
    """``ids`` (communities,): the stable id of each community; ``parents`` by community; ``events`` for the record."""

    ids: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    events: tuple[LineageEvent, ...]


def match(
    communities: NDArray[np.int64], old_tasks: NDArray[np.int64], old_ids: Sequence[int], next_id: int
) -> Lineage:
    """Give every community a stable id.

    Parameters
    ----------
    communities
        (n,) new community of each prompt, 0..C-1.
    old_tasks
        (n,) id of the champion's task for the same prompt; any value outside ``old_ids`` means none.
    old_ids
        The champion's task ids.
    next_id
        First id that was never used.
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
        evidence = {"prompts": float(size_new[new])}
        if ids[new] >= 0:
            evidence["overlap"] = float(jaccard[new, column[ids[new]]])
            parents.append(())
            events.append(LineageEvent("keep", ids[new], (ids[new],), evidence))
            continue
        ids[new], next_id = next_id, next_id + 1
        born_from: tuple[int, ...] = ()
        if len(old_ids) and shared[new].any():
            parent = int(shared[new].argmax())
            born_from = (old_ids[parent],)
            evidence["share_from_parent"] = float(shared[new, parent] / size_new[new])
        parents.append(born_from)
        events.append(LineageEvent("spawn", ids[new], born_from, evidence))
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
