"""Which prompts a model that joins is asked: a medoid of every task first, then where the known models differ."""

from __future__ import annotations

import numpy as np

from agent.choice.probing import select_probes
from agent.snapshot import Snapshot
from tests.jobs.made import trained


def labels(snapshot: Snapshot) -> dict[str, int]:
    return dict(zip(snapshot.meta["indexed_prompts"], snapshot.tensors["indexed_task"].tolist()))


def test_every_task_gets_its_medoid_first() -> None:
    snapshot = trained(False)
    task, tasks = labels(snapshot), snapshot.tasks
    found = select_probes(snapshot, task, len(tasks))
    assert sorted(task[name] for name in found) == list(range(len(tasks)))
    assert all(name == tasks[task[name]].medoids[0] for name in found)


def test_then_what_is_chosen_is_spread_by_traffic_and_disagreement() -> None:
    snapshot = trained(False)
    task = labels(snapshot)
    spread = snapshot.tensors["indexed_means"].var(axis=1)
    found = select_probes(snapshot, task, 40)
    assert len(set(found)) == 40
    share = np.bincount([task[name] for name in found], minlength=len(snapshot.tasks))
    worth = np.bincount(list(task.values()), spread, minlength=len(snapshot.tasks))
    assert share[worth.argmax()] == share.max() > share[worth.argmin()] >= 1


def test_only_what_can_be_asked_is_and_nothing_twice() -> None:
    snapshot = trained(False)
    known = sorted(labels(snapshot))
    first = select_probes(snapshot, known[:30], 10)
    assert set(first) <= set(known[:30])
    rest = select_probes(snapshot, known[:30], 100, done=first)
    assert set(first) | set(rest) == set(known[:30]) and not set(first) & set(rest)
    assert select_probes(snapshot, [], 5) == [] == select_probes(snapshot, ["unknown"], 5)
    assert first + rest[:5] == select_probes(snapshot, known[:30], 15), "half-way it goes on as it would have"
