"""Every replica takes part in the running trial: it loads the other snapshot, and both routers learn the same rows."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest

from agent.evaluation.trial import TRIAL
from agent.snapshot import Snapshot
from serve.routing.rival import OnTrial
from serve.service import Service
from store.database import Database
from store.feedback import FeedbackEvent
from store.snapshots import SnapshotStore
from store.trials import TrialPlan
from tests.serve.conftest import Replica, publish, request, wait

pytestmark = pytest.mark.anyio
PLAN = TrialPlan(replace(TRIAL, share=0.8), 14.0)


def versions(service: Service) -> tuple[int, int | None]:
    """Of the snapshot that serves, and of the other one on trial."""
    one, *other = (router.snapshot.version for router in service.live.serving.routers)
    return one, other[0] if other else None


def the_trial(service: Service) -> OnTrial:
    assert service.live.serving.on_trial is not None
    return service.live.serving.on_trial


async def test_replicas_follow_a_trial_and_learn_on_both_sides(
    postgres_url: str, replica: Replica, snapshot: Snapshot, misled: Snapshot
) -> None:
    database = Database.open(postgres_url)
    publish(database, snapshot)
    store = SnapshotStore(database)
    with ExitStack() as stack:
        replicas = [stack.enter_context(replica(name, postgres_url)) for name in ("one", "two")]
        one = replicas[0]
        before = [await one.live.route(request("sum", f"{n}", explore=True), "route", "tests") for n in range(5)]
        assert all(routed.decision.trial is None for routed in before)
        two = store.publish(misled, status="trial", report={}, created_by="refresh", plan=PLAN).version
        wait(lambda: all(versions(service) == (1, two) for service in replicas))

        routed = [await one.live.route(request("sum", f"{n}", explore=True), "route", "tests") for n in range(40)]
        tried = [r for r in routed if r.decision.trial is not None]
        assert len(tried) > 30, "the two hardly agree"
        assert {r.decision.trial.trial for r in tried if r.decision.trial} == {1}
        sides = {r.decision.trial.side(r.decision.model) for r in tried if r.decision.trial}
        assert {"champion", "challenger"} <= sides
        exposition = one.metrics.exposition().decode()
        assert 'thalweg_trial_decisions_total{side="challenger",trial="1"}' in exposition
        greedy = await one.live.route(request("sum", explore=False), "route", "tests")
        assert greedy.decision.trial is None and greedy.decision.chosen.propensity == 1.0
        stored = one.decisions.get(tried[0].id)
        assert stored is not None and stored.decision.trial == tried[0].decision.trial

        events = [FeedbackEvent(r.id, n / 40, "judge") for n, r in enumerate(routed)]
        last = one.feedback.append(events).result()[-1].seq
        routers = [router for service in replicas for router in service.live.serving.routers]
        wait(lambda: {router.position for router in routers} == {last})
        digests = [router.digest() for router in routers]
        assert digests[0] == digests[2] and digests[1] == digests[3] and digests[0] != digests[1]

        rivals = [the_trial(service).router for service in replicas]
        store.settle(1, "promoted", "better", {})
        wait(lambda: all(versions(service) == (two, None) for service in replicas))
        assert [service.live.serving.router for service in replicas] == rivals, "they are not loaded anew"

        three = store.publish(snapshot, status="champion", report={}, created_by="refresh", plan=PLAN).version
        wait(lambda: all(versions(service) == (three, two) for service in replicas))
        assert [the_trial(service).router for service in replicas] == rivals, "the former champion goes on as the other"
        store.promote(three, "it stays")
        wait(lambda: all(versions(service) == (three, None) for service in replicas))
    database.close()


def test_a_rival_that_cannot_be_loaded_is_told_and_the_champion_serves_on(
    sqlite_url: str, replica: Replica, snapshot: Snapshot
) -> None:
    database = Database.open(sqlite_url)
    publish(database, snapshot)
    store = SnapshotStore(database)
    with replica("one", sqlite_url) as service:
        foreign = replace(snapshot, meta={**snapshot.meta, "encoder": "another/encoder"})
        store.publish(foreign, status="trial", report={}, created_by="refresh", plan=PLAN)
        wait(lambda: service.follower.degraded_reason)
        assert str(service.follower.degraded_reason).startswith("trial 1 runs without this replica: snapshot 2 reads")
        assert versions(service) == (1, None) and service.follower.unavailable_reason is None
        store.end_trial("enough")
        wait(lambda: service.follower.degraded_reason is None)
    database.close()


async def test_a_replica_tosses_no_more_coins_than_its_bound_on_regret_allows(
    postgres_url: str, replica: Replica, snapshot: Snapshot, misled: Snapshot
) -> None:
    """The jobs, which end such a trial, look every few seconds; hundreds of requests may come meanwhile."""
    database = Database.open(postgres_url)
    publish(database, snapshot)
    plan = TrialPlan(replace(PLAN.config, max_regret=0.003), 14.0)
    with ExitStack() as stack:
        one = stack.enter_context(replica("one", postgres_url))
        two = (
            SnapshotStore(database).publish(misled, status="trial", report={}, created_by="refresh", plan=plan).version
        )
        wait(lambda: versions(one) == (1, two))
        routed = [await one.live.route(request("sum", f"{n}", explore=True), "route", "tests") for n in range(60)]
        tossed = [r.decision.trial.expected_regret for r in routed if r.decision.trial is not None]
        assert 0 < len(tossed) < 40 and sum(tossed[:-1]) < 0.003 <= sum(tossed)
        assert all(r.decision.trial is None for r in routed[-20:])
    database.close()
