"""Single heads are shown, replaced, switched off and on; a change is another snapshot, and estimates follow it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agent.errors import ChampionChanged, InvalidInput, ThalwegError
from agent.estimate import Estimator
from agent.snapshot import GENERAL
from agent.types import Array
from store.database import Database
from store.heads import HeadView, change_head, get_head, list_heads
from store.snapshots import SnapshotStore
from tests.agent import clusters

MODEL = "v/alpha"


@pytest.fixture
def store(database: Database) -> SnapshotStore:
    """With a champion, version 1."""
    store = SnapshotStore(database)
    store.publish(clusters.snapshot(), status="champion", report={}, created_by="test")
    return store


def change(store: SnapshotStore, task: str, model: str = MODEL, version: int | None = None, **how: Any) -> HeadView:
    champion = store.champion_version() if version is None else version
    return change_head(store, champion or 0, task, model, by="a person", **how)


def stage2(store: SnapshotStore) -> Array:
    """(kinds, models) what the champion's heads say of a prompt of each kind."""
    champion = store.load(store.champion_version() or 0)
    return Estimator(champion).estimate_each([clusters.encoded(kind, 500) for kind in clusters.KINDS]).stage2


def test_a_general_head_is_switched_off_and_on_and_a_rollback_takes_it_back(store: SnapshotStore) -> None:
    before, column = stage2(store), clusters.MODELS.index(MODEL)
    off = change(store, "general", off=True)
    assert (off.snapshot, off.task, off.off) == (2, None, True) and len(off.weight or ()) == off.inputs
    after = stage2(store)
    assert after[:, column] == pytest.approx(np.full(len(after), clusters.snapshot().tensors["overall"][column]))
    assert np.array_equal(np.delete(after, column, 1), np.delete(before, column, 1))
    row = store.list()[0]
    assert (row.status, row.parent, row.position, row.created_by) == ("champion", 1, 100, "a person")
    assert row.report["reason"] == f"snapshot 1 with the general head of {MODEL} switched off by a person"
    assert row.report["head"] == {"task": None, "model": MODEL, "change": "switched off", "by": "a person", "from": 1}
    assert not change(store, "general").off and np.array_equal(stage2(store), before)
    assert store.rollback("back") == 2 and np.array_equal(stage2(store), after)
    assert store.load(1).heads_off == frozenset()


def test_a_head_of_a_task_is_added_replaced_and_switched_off(store: SnapshotStore) -> None:
    snapshot, before = clusters.snapshot(), stage2(store)
    stored = {h.task for h in snapshot.heads} - {GENERAL}
    task = next(t.id for t in snapshot.tasks if t.id not in stored)
    inputs = snapshot.tensors["task_head_basis"].shape[1]
    with pytest.raises(InvalidInput, match="stores no head of v/alpha for task"):
        change(store, str(task), off=True)
    added = change(store, str(task), weight=[0.0] * (inputs - 1) + [0.25])
    assert (added.task, added.inputs, added.norm, added.intercept, added.off) == (task, inputs, 0.0, 0.25, False)
    shift = stage2(store) - before
    assert shift.max() == pytest.approx(0.25, abs=0.02) and np.abs(np.delete(shift, 0, 1)).max() < 1e-6
    assert get_head(store.load(2), str(task), MODEL) == added
    assert len(list_heads(store.load(2))) == len(snapshot.heads) + 1
    assert change(store, str(task), off=True).weight == added.weight
    assert stage2(store) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "model", "how", "param", "message"),
    [
        ("99", MODEL, {"off": True}, "task", "has no task '99'"),
        ("x", MODEL, {"off": True}, "task", "'general' names the heads that serve all"),
        ("general", "v/alfa", {"off": True}, "model", "did you mean 'v/alpha'?"),
        ("general", MODEL, {"weight": [1.0, 2.0]}, "weight", "weight has 2 numbers; a head of this kind has"),
        ("general", MODEL, {"weight": "inf"}, "weight", r"weight\[3\] is inf"),
        ("general", MODEL, {"weight": "nan"}, "weight", r"weight\[3\] is nan"),
        ("general", MODEL, {"weight": "1e300"}, "weight", r"weight\[3\] is 1e\+300"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_published(
    store: SnapshotStore, task: str, model: str, how: dict[str, Any], param: str, message: str
) -> None:
    if isinstance(how.get("weight"), str):
        weight = np.zeros(clusters.snapshot().tensors["trunk_weight"].shape[1] + 1)
        weight[3] = float(str(how["weight"]))
        how = {"weight": weight.tolist()}
    with pytest.raises(ThalwegError, match=message) as caught:
        change(store, task, model, **how)
    assert caught.value.param == param and store.champion_version() == 1


def test_only_the_champions_heads_are_changed(store: SnapshotStore) -> None:
    store.publish(clusters.snapshot(), status="champion", report={}, created_by="test")
    with pytest.raises(ChampionChanged, match="the champion is snapshot 2, no longer 1"):
        change(store, "general", version=1, off=True)
    with pytest.raises(InvalidInput, match="no snapshot 9"):
        change(store, "general", version=9, off=True)
    assert len(store.list()) == 2 and math.isfinite(list_heads(store.load(1))[0].norm)
