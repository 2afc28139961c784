"""Snapshots come back bit for bit or not at all; one champion; tasks follow the champions."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from sqlalchemy import text

from agent.errors import ChampionChanged, InvalidInput, SnapshotCorrupt
from agent.evaluation.trial import HOLD_BACK
from agent.snapshot import LineageEvent
from store.database import Database
from store.lineage import TaskLineage
from store.snapshots import DEMOTED, SnapshotStore
from store.trials import TrialPlan
from tests.store.build import a_snapshot

SPAWN = (LineageEvent("spawn", 1, (), {"prompts": 9.0}), LineageEvent("spawn", 2, (), {"prompts": 9.0}))


@pytest.fixture
def store(database: Database) -> SnapshotStore:
    """An empty store."""
    return SnapshotStore(database)


def publish(store: SnapshotStore, status: str = "champion", **fields: object) -> int:
    """Publish a snapshot and return its version."""
    made = a_snapshot(**fields)  # type: ignore[arg-type]
    return store.publish(made, status=status, report={}, created_by="test").version  # type: ignore[arg-type]


def test_a_snapshot_comes_back_bit_for_bit(store: SnapshotStore) -> None:
    made = a_snapshot(lineage=SPAWN)
    published = store.publish(made, status="champion", report={"gate": np.float64(0.5)}, created_by="refresh")
    assert published.version > 0 and published.tensors is made.tensors
    loaded = store.load(published.version)
    assert (loaded.version, loaded.position, loaded.meta, loaded.lineage) == (published.version, 5, made.meta, SPAWN)
    assert loaded.tasks == made.tasks
    assert loaded.tensors.keys() == made.tensors.keys()
    for name, array in made.tensors.items():
        assert loaded.tensors[name].dtype == array.dtype and loaded.tensors[name].shape == array.shape
        assert np.array_equal(loaded.tensors[name], array)
    heads = {(h.task, h.model): h.tensors for h in loaded.heads}
    assert len(heads) == len(made.heads)
    for head in made.heads:
        for name, array in head.tensors.items():
            assert np.array_equal(heads[head.task, head.model][name], array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE snapshots SET tensors = (SELECT tensors FROM heads WHERE task = 1)", "differ from what was published"),
        ("UPDATE heads SET tensors = (SELECT tensors FROM heads WHERE task = 1) WHERE task = 2", r"head \(2, a\)"),
        ("DELETE FROM heads WHERE task = 2", "3 of its 4 heads"),
        ("UPDATE snapshots SET meta = '{\"format\": 99}'", "format 99"),
    ],
)
def test_damage_is_noticed_and_never_promoted(
    database: Database, store: SnapshotStore, damage: str, message: str
) -> None:
    bad = publish(store, "challenger")
    with database.connect(write=True) as connection:
        connection.execute(text(damage))
        connection.commit()
    good = publish(store)
    with pytest.raises(SnapshotCorrupt, match=message):
        store.load(bad)
    with pytest.raises(SnapshotCorrupt):
        store.promote(bad, "try")
    assert store.champion_version() == good


def test_a_blob_that_is_no_safetensors_is_corrupt_though_its_digest_fits(
    database: Database, store: SnapshotStore
) -> None:
    version = publish(store)
    with database.connect(write=True) as connection:
        digest = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"  # of one zero byte
        blob = "x'00'" if database.dialect == "sqlite" else "'\\x00'::bytea"
        connection.exec_driver_sql(f"UPDATE snapshots SET tensors = {blob}, sha256 = '{digest}'")
        connection.commit()
    with pytest.raises(SnapshotCorrupt, match="snapshot"):
        store.load(version)


def test_meta_that_is_no_json_is_refused(store: SnapshotStore) -> None:
    made = a_snapshot()
    for value in (float("nan"), np.float32(1.0), {1, 2}):
        with pytest.raises(SnapshotCorrupt, match="JSON"):
            store.publish(replace(made, meta={**made.meta, "x": value}), status="rejected", report={}, created_by="t")
    assert store.list() == []


def test_there_is_one_champion_and_any_version_can_be_promoted(store: SnapshotStore) -> None:
    assert store.champion_version() is None
    first, second = publish(store), publish(store)
    challenger, rejected = publish(store, "challenger"), publish(store, "rejected")
    assert first < second < challenger < rejected and store.champion_version() == second
    assert [r.status for r in store.list()] == ["rejected", "challenger", "champion", "retired"]
    assert [r.parent for r in store.list()] == [second, second, first, None]
    for version in (challenger, rejected, first):
        store.promote(version, f"to {version}")
        assert store.champion_version() == version
        assert [r.version for r in store.list() if r.status == "champion"] == [version]
    row = store.list()[-1]
    assert (row.version, row.reason, row.tasks, row.heads) == (first, f"to {first}", 2, 4)
    assert row.promoted_at is not None and row.promoted_at > row.created_at


def test_an_unknown_version_is_named(store: SnapshotStore) -> None:
    for call in (lambda: store.load(7), lambda: store.promote(7, "x")):
        with pytest.raises(InvalidInput, match="no snapshot 7"):
            call()


def test_champions_published_at_once_follow_one_another(store: SnapshotStore) -> None:
    threads = [threading.Thread(target=publish, args=(store,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = store.list()
    assert [r.status for r in rows] == ["champion"] + ["retired"] * 5
    assert [r.parent for r in rows] == [r.version for r in rows[1:]] + [None]


def test_a_champion_replaces_only_the_one_that_it_was_compared_with(store: SnapshotStore) -> None:
    def follow(expected: int | None, status: Literal["champion", "rejected"] = "champion") -> int:
        made = store.publish(a_snapshot(), status=status, report={}, created_by="t", expected_champion=expected)
        return made.version

    first = follow(None)
    with pytest.raises(ChampionChanged, match=f"the champion is snapshot {first}, no longer None"):
        follow(None)
    second = follow(first)
    store.rollback("worse")
    with pytest.raises(ChampionChanged, match=f"the champion is snapshot {first}, no longer {second}"):
        follow(second)
    assert [(r.version, r.status) for r in store.list()] == [(second, "retired"), (first, "champion")]
    follow(second, "rejected")
    assert store.champion_version() == first


def test_of_two_champions_at_once_one_is_refused(store: SnapshotStore) -> None:
    first = publish(store)
    gate, outcomes = threading.Barrier(2), []

    def follow() -> None:
        gate.wait()
        try:
            store.publish(a_snapshot(), status="champion", report={}, created_by="t", expected_champion=first)
        except ChampionChanged as error:
            outcomes.append(error.code)
        else:
            outcomes.append("published")

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["champion_changed", "published"] and len(store.list()) == 2


def test_the_next_task_id_was_used_by_no_snapshot(database: Database, store: SnapshotStore) -> None:
    lineage = TaskLineage(database)
    assert lineage.next_id() == 0
    publish(store, tasks=(0,), lineage=(LineageEvent("spawn", 0, (), {}),))
    assert lineage.next_id() == 1
    publish(store, "rejected", tasks=(0, 5), lineage=(LineageEvent("spawn", 5, (), {}),))
    assert lineage.next_id() == 6, "nor by a rejected one"
    publish(store, tasks=(8,))
    assert lineage.next_id() == 9


def test_tasks_follow_the_champions(database: Database, store: SnapshotStore) -> None:
    lineage = TaskLineage(database)
    first = publish(store, tasks=(1, 2), lineage=SPAWN)
    publish(store, "rejected", tasks=(1, 3), lineage=(LineageEvent("spawn", 3, (2,), {}),))
    assert [(t.id, t.name, t.spawned_in, t.retired_in) for t in lineage.list()] == [
        (1, "task 1", first, None),
        (2, "task 2", first, None),
    ]
    merge = (LineageEvent("keep", 1, (1,), {"overlap": 0.8}), LineageEvent("merge", 2, (1,), {"share": 0.9}))
    second = publish(store, tasks=(1,), lineage=merge)
    assert [t.id for t in lineage.list()] == [1]
    gone = lineage.list(include_retired=True)[1]
    assert (gone.id, gone.retired_in, gone.successor) == (2, second, 1)
    assert lineage.get(2) == gone and lineage.get(3) is None
    assert gone.retired_at is not None and gone.retired_at > gone.created_at
    assert [(e.snapshot, e.event.kind) for e in lineage.events(2)] == [(first, "spawn"), (second, "merge")]
    assert [e.why for e in lineage.events(2)] == [
        "9 prompts that belonged to no task became one", "90% of its prompts went to task 1",
    ]  # fmt: skip
    made = {row.version: row.created_at for row in store.list()}
    assert [(e.at, e.promoted) for e in lineage.events(2)] == [(made[first], True), (made[second], True)]
    assert [(e.promoted, e.why) for e in lineage.events(3)] == [
        (False, "prompts became a task of their own, some of them from task 2")
    ]

    store.promote(first, "rollback")
    assert [(t.id, t.retired_in, t.successor) for t in lineage.list(include_retired=True)] == [
        (1, None, None),
        (2, None, None),
    ]
    assert [task.retired_at for task in lineage.list()] == [None, None]


def test_a_failed_publish_leaves_nothing(database: Database, store: SnapshotStore) -> None:
    made = a_snapshot(lineage=SPAWN)
    twice = replace(made, heads=(*made.heads, made.heads[0]))
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.publish(twice, status="champion", report={}, created_by="test")
    assert store.list() == [] and TaskLineage(database).events(1) == []


def test_a_rollback_goes_to_the_last_champion_before(store: SnapshotStore) -> None:
    with pytest.raises(InvalidInput, match="no former champion"):
        store.rollback("back")
    publish(store, "rejected")
    first = publish(store)
    with pytest.raises(InvalidInput, match="no former champion"):
        store.rollback("back")
    second, third = publish(store), publish(store)
    assert store.rollback("back") == second and store.champion_version() == second
    store.promote(first, "further")
    assert store.rollback("back") == second, "which served last before"
    assert {r.version: r.reason for r in store.list()}[second] == "back" and third not in (first, second)


def test_a_demoted_champion_keeps_why_and_a_rollback_passes_over_it(store: SnapshotStore) -> None:
    first, second = publish(store), publish(store)
    plan = TrialPlan(HOLD_BACK, 14.0)
    made = store.publish(a_snapshot(), status="champion", report={}, created_by="refresh", plan=plan)
    third, figures = made.version, {"mean": -0.1}
    assert store.settle(1, "promoted", "worse", figures)
    assert not store.settle(1, "promoted", "worse", {}), "it is no champion any more"
    rows = {r.version: r for r in store.list()}
    assert (rows[second].status, rows[second].reason) == ("champion", "worse")
    assert rows[third].status == "retired" and rows[third].report == {
        DEMOTED: {"reason": "worse", "successor": second, "trial": 1, "live": figures}
    }
    assert store.rollback("back") == first
    assert store.champion_version() == first and DEMOTED not in {r.version: r for r in store.list()}[first].report
