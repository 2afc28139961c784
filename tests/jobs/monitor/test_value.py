"""Off-policy values of snapshots on logged decisions agree with the truth, and leave out what a snapshot was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.evaluation.value import PolicyValues
from agent.snapshot import Snapshot
from jobs.monitor.value import snapshot_values
from store.database import Database
from store.feedback import FeedbackEvent, FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import BEST, give_feedback, live, publish, records, trained

N = 900
Values = Callable[..., PolicyValues]


@pytest.fixture
def values(database: Database, writer: GroupCommitter) -> Values:
    """`snapshot_values` of the database."""
    return partial(snapshot_values, database, FeedbackLog(database, writer))


@pytest.fixture
def misled_champion(database: Database) -> Snapshot:
    """A misled champion and its good predecessor, both trained before any feedback, and N decisions of the champion."""
    publish(database, misled=False)
    champion = publish(database, misled=True)
    live(database, champion, records(N, seed=7))
    return champion


def republish(database: Database, snapshot: Snapshot) -> None:
    SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="refresh")


@pytest.mark.usefixtures("misled_champion")
def test_values_agree_with_the_truth(values: Values) -> None:
    found = values(always=["cheap"])
    assert [p.policy for p in found.policies] == ["snapshot 2", "snapshot 1", "logged", "always cheap"]
    assert (found.decisions, found.fresh, found.trained_on) == (N, N, 0)
    misled, good, logged, cheap = found.policies
    rows = records(N, seed=7)
    truth = {
        good.policy: np.mean([r["scores"][BEST[r["source"]]] for r in rows]),
        misled.policy: np.mean([r["scores"]["cheap" if r["source"] == "history" else BEST[r["source"]]] for r in rows]),
        cheap.policy: np.mean([r["scores"]["cheap"] for r in rows]),
    }
    for policy in (good, misled, cheap):
        for estimate in (policy.snips, policy.dr):
            assert abs(estimate.mean - truth[policy.policy]) < 3.0 * estimate.stderr
    assert good.dr.lower() > misled.dr.mean
    assert logged.effective == pytest.approx(N, rel=0.01) and logged.clipped == 0
    assert logged.ips.mean == pytest.approx(logged.snips.mean)
    assert cheap.effective < good.effective < misled.effective < N + 1
    assert cheap.cost == pytest.approx(0.001)


@pytest.mark.usefixtures("misled_champion")
def test_decisions_that_a_snapshot_was_trained_on_are_counted_apart(database: Database, values: Values) -> None:
    republish(database, replace(trained(False), position=N - 100))
    found = values()
    assert (found.fresh, found.trained_on) == (100, N - 100)
    some = values([1], since=N - 50)
    assert (some.since, some.upto, some.decisions) == (N - 50, N, 50)
    give_feedback(database, FeedbackEvent("d0", 0.0, "judge"))
    again = values(since=N)
    assert (again.fresh, again.trained_on) == (0, 1), "a revision of a score that it was trained on"


@pytest.mark.usefixtures("misled_champion")
def test_the_champions_expectations_do_not_calibrate_the_scores_that_it_is_evaluated_on(values: Values) -> None:
    """The misled champion expects much of the cheap model; a ledger of all feedback would find the judge too harsh."""
    assert max(policy.snips.mean for policy in values().policies) < 1.0


@pytest.mark.usefixtures("misled_champion")
def test_mistakes_are_named(database: Database, values: Values) -> None:
    with pytest.raises(InvalidInput, match="no snapshot 9"):
        values([9])
    with pytest.raises(InvalidInput, match="did you mean 'cheap'"):
        values(always=["cheep"])
    republish(database, replace(trained(True), meta={**trained(True).meta, "encoder": "words/v2"}))
    with pytest.raises(InvalidInput, match="another encoder"):
        values([3, 1])
    assert values().policies == () and values().excluded["of another encoder"] == N


def test_without_a_champion_there_are_no_values(values: Values) -> None:
    with pytest.raises(InvalidInput, match="no champion"):
        values()
