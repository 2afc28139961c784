"""A drift is kept once, whichever replica detects it and however often."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest

from agent.observations import CallDrift, Drift
from store.database import Database
from store.drifts import DriftStore
from store.snapshots import SnapshotStore
from tests.store.build import a_snapshot

FALL = Drift("a", position=60, since=40, shift=-0.4, detector="scan")


@pytest.fixture
def snapshots(database: Database) -> list[int]:
    """Two versions."""
    store = SnapshotStore(database)
    return [store.publish(a_snapshot(), status="champion", report={}, created_by="t").version for _ in range(2)]


def test_a_drift_comes_back_as_it_was_found(database: Database, snapshots: list[int]) -> None:
    store = DriftStore(database)
    assert store.record(snapshots[0], [FALL]) == [FALL]
    (found,) = store.list()
    assert (found.drift, found.snapshot, found.detected_at.tzinfo is not None) == (FALL, snapshots[0], True)
    assert found.why == "a fell by 0.40 against what snapshot 1 expected, from feedback row 40 on"


def test_replicas_that_find_the_same_drift_at_once_record_it_once(
    database: Database, database_url: str, snapshots: list[int]
) -> None:
    new: list[Sequence[Drift]] = []
    together = threading.Barrier(6)

    def replica() -> None:
        own = Database.open(database_url)
        together.wait()
        new.append(DriftStore(own).record(snapshots[0], [FALL]))
        own.close()

    threads = [threading.Thread(target=replica) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new, key=len) == [[]] * 5 + [[FALL]]
    assert [found.drift for found in DriftStore(database).list()] == [FALL]


def test_another_snapshot_that_finds_the_change_a_few_rows_off_adds_nothing(
    database: Database, snapshots: list[int]
) -> None:
    store = DriftStore(database)
    store.record(snapshots[0], [FALL])
    for again in (
        Drift("a", 63, 45, -0.3, "scan"),
        Drift("a", 41, 30, -0.5, "adwin"),
        Drift("a", 90, 20, -0.2, "adwin"),
    ):
        assert store.record(snapshots[1], [again]) == []
    later, other = Drift("a", 80, 61, 0.3, "scan"), Drift("b", 60, 40, -0.4, "scan")
    assert store.record(snapshots[1], [FALL, later, other]) == [later, other]
    assert [(f.drift, f.snapshot) for f in store.list()] == [(later, 2), (other, 2), (FALL, 1)]


def test_the_latest_of_each_model_after_a_position(database: Database, snapshots: list[int]) -> None:
    store = DriftStore(database)
    drifts = [
        FALL,
        Drift("a", 90, 70, 0.2, "scan"),
        Drift("b", 50, 40, 0.2, "scan"),
        Drift("a", 120, 100, -0.1, "adwin"),
    ]
    store.record(snapshots[0], drifts)
    assert [f.drift.position for f in store.list(limit=2)] == [120, 90]
    assert {model: f.drift.position for model, f in store.latest(after=0).items()} == {"a": 120, "b": 50}
    assert store.latest(after=50).keys() == {"a"} and store.latest(after=120) == {}


def test_a_drift_of_calls_is_stored_where_its_replica_knew_of_the_last_one(
    database: Database, snapshots: list[int]
) -> None:
    store = DriftStore(database)
    first = Drift("a", 60, 40, 0.7, "page-hinkley", "tokens")
    assert store.record_calls([CallDrift(first, 0)]) == [first]
    late = Drift("a", 64, 45, 0.6, "page-hinkley", "tokens")  # of a replica that had not read of the first
    assert store.record_calls([CallDrift(late, 0), CallDrift(first, 0)]) == []
    second, other = (
        Drift("a", 90, 55, -0.7, "page-hinkley", "tokens"),
        Drift("a", 60, 40, 0.2, "page-hinkley", "failures"),
    )
    assert store.record_calls([CallDrift(second, 40), CallDrift(other, 0)]) == [second, other]
    assert store.changes() == {("a", "tokens"): 55, ("a", "failures"): 40}


def test_drifts_of_calls_have_no_consequences_of_a_change_of_quality(database: Database, snapshots: list[int]) -> None:
    store = DriftStore(database)
    slower = Drift("a", 60, 40, math.log(2), "page-hinkley", "latency")
    assert store.record_calls([CallDrift(slower, 0)]) == [slower]
    assert store.latest(after=0) == {} and store.list(kinds=["quality"]) == []
    assert store.record(snapshots[0], [FALL]) == [FALL]
    assert [f.drift for f in store.list(kinds=["quality"])] == [FALL]
    (found,) = store.list(kinds=["latency"])
    assert (found.drift, found.snapshot) == (slower, None)
    assert found.why == "answers of a take 2.00 times as long as before, from outcome row 40 on"
