"""Which prompts inform most on a model that nothing is known of: its probes.

First one central prompt of every task, then prompts on which the models that are known differ most, spread over the tasks
by what one more score of each would settle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from agent.snapshot import Snapshot


def select_probes(snapshot: Snapshot, available: Collection[str], count: int, done: Collection[str] = ()) -> list[str]:
    """At most ``count`` prompts of those that the snapshot indexes, the most telling first.

    Parameters
    ----------
    available
        Ids of the prompts that can be asked.
    done
        Ids of those that were asked already; they count for their tasks, and are not named again.

    Notes
    -----
    Every task first gets its medoid, tasks of much traffic whose models differ before others. After n scores of a task, one
    more takes about ``1 / (n + 1) - 1 / (n + 2)`` off the variance of its mean; weighted by the task's share of the prompts and
    by how much its models differ, that decides which task is next. Within a task, its medoids come first, then the prompts
    with the largest variance of estimated quality over the models.
    """
    ids, tasks = snapshot.meta["indexed_prompts"], snapshot.tasks
    labels = snapshot.tensors["indexed_task"].astype(np.int64)
    spread = snapshot.tensors["indexed_means"].astype(np.float64).var(axis=1)  # (n,)
    asked, can = set(done), set(available) - set(done)
    worth = np.bincount(labels, spread, minlength=len(tasks))  # size times mean spread
    waiting: list[list[int]] = [[] for _ in tasks]
    for row in np.lexsort((np.arange(len(ids)), spread)):  # the last is taken first
        if ids[row] in can:
            waiting[labels[row]].append(int(row))
    at = {name: row for row, name in enumerate(ids)}
    for task, info in enumerate(tasks):
        medoids = [at[name] for name in info.medoids if name in can and name in at]
        if medoids:
            rest = [row for row in waiting[task] if row not in set(medoids)]
            waiting[task] = [*rest, *reversed(medoids)]
    n = Counter(int(labels[at[name]]) for name in asked if name in at)
    found: list[str] = []
    while len(found) < count and any(waiting):
        left = [task for task, rows in enumerate(waiting) if rows]
        task = max(left, key=lambda t: (n[t] == 0, worth[t] / ((n[t] + 1.0) * (n[t] + 2.0)), -t))
        found.append(ids[waiting[task].pop()])
        n[task] += 1
    return found
