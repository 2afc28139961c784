"""Snapshots are worth what they would have earned, by decisions that they were not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.evaluation.value import PolicyValues
from jobs.monitor.value import value
from store.database import Database
from store.feedback import FeedbackEvent, FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import BEST, live, records
from tests.jobs.monitor.test_rollback import publish, trained

N = 900


@pytest.fixture
def worlds(database: Database) -> Database:
    """A misled snapshot and a good one, both trained before anything was said, and the misled one's live decisions."""
    publish(database, misled=False)
    live(database, publish(database, misled=True), records(N, seed=7))
    return database


def judged(database: Database, *versions: int, **options: object) -> PolicyValues:
    writer = GroupCommitter(database)
    found = value(database, FeedbackLog(database, writer), versions, **options)  # type: ignore[arg-type]
    writer.close()
    return found


def test_values_agree_with_the_truth(worlds: Database) -> None:
    found = judged(worlds, always=["cheap"])
    assert [w.policy for w in found.policies] == ["snapshot 2", "snapshot 1", "logged", "always cheap"]
    assert (found.decisions, found.fresh, found.trained_on) == (N, N, 0)
    misled, good, logged, cheap = found.policies
    rows = records(N, seed=7)
    truth = {
        good.policy: np.mean([r["scores"][BEST[r["source"]]] for r in rows]),
        misled.policy: np.mean([r["scores"]["cheap" if r["source"] == "history" else BEST[r["source"]]] for r in rows]),
        cheap.policy: np.mean([r["scores"]["cheap"] for r in rows]),
    }
    for w in (good, misled, cheap):
        for estimate in (w.snips, w.dr):
            assert abs(estimate.mean - truth[w.policy]) < 3.0 * estimate.stderr
    assert good.dr.lower() > misled.dr.mean
    assert logged.effective == pytest.approx(N, rel=0.01) and logged.clipped == 0
    assert logged.ips.mean == pytest.approx(logged.snips.mean)
    assert cheap.effective < good.effective < misled.effective < N + 1
    assert cheap.cost == pytest.approx(0.001)


def test_what_a_snapshot_was_trained_on_is_told(worlds: Database) -> None:
    late = replace(trained(False), position=N - 100)
    SnapshotStore(worlds).publish(late, status="champion", report={}, created_by="refresh")
    found = judged(worlds)
    assert (found.fresh, found.trained_on) == (100, N - 100)
    some = judged(worlds, 1, since=N - 50)
    assert (some.since, some.upto, some.decisions) == (N - 50, N, 50)
    writer = GroupCommitter(worlds)
    FeedbackLog(worlds, writer).append([FeedbackEvent("d0", 0.0, "judge")]).result()
    writer.close()
    again = judged(worlds, since=N)
    assert (again.fresh, again.trained_on) == (0, 1), "a revision of what it was trained on"


def test_what_the_champion_expects_does_not_calibrate_what_it_is_judged_by(worlds: Database) -> None:
    """The misled champion expects much of the cheap model; a ledger that heard it all would blame the judge."""
    assert max(w.snips.mean for w in judged(worlds).policies) < 1.0


def test_mistakes_are_named(worlds: Database) -> None:
    with pytest.raises(InvalidInput, match="no snapshot 9"):
        judged(worlds, 9)
    with pytest.raises(InvalidInput, match="did you mean 'cheap'"):
        judged(worlds, always=["cheep"])
    other = replace(trained(True), meta={**trained(True).meta, "encoder": "words/v2"})
    SnapshotStore(worlds).publish(other, status="champion", report={}, created_by="refresh")
    with pytest.raises(InvalidInput, match="another encoder"):
        judged(worlds, 3, 1)
    assert judged(worlds).policies == () and judged(worlds).excluded["of another encoder"] == N


def test_without_a_champion_there_is_nothing_to_judge(database: Database) -> None:
    with pytest.raises(InvalidInput, match="no champion"):
        judged(database)
