"""A model that changes silently: each replica finds it, the store records it once, a new champion was trained on it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sqlalchemy import insert

from agent.snapshot import Snapshot
from agent.types import ModelCard
from serve.service import Service
from store.database import Database
from store.feedback import FeedbackEvent
from store.tables import OutcomeLogTable
from tests.serve.conftest import WORDS, Replica, publish, request, wait

pytestmark = pytest.mark.anyio

STEADY = 60
"""Scores of up/alpha before it gets worse."""


async def rate(service: Service, count: int, score: float) -> None:
    """Give ``count`` answers of up/alpha to river prompts this score; returns once the replica has read them."""
    for n in range(count):
        asked = request("river", WORDS.split()[n % 20], candidates=("up/alpha",))
        routed = await service.live.route(asked, "chat", "tests")
        receipt = service.feedback.append([FeedbackEvent(routed.id, score, "judge")]).result()[0]
    wait(lambda: service.live.serving.router.position == receipt.seq)


def counted(*services: Service, kind: str = "quality") -> float:
    """Drifts of up/alpha in the replicas' metrics together."""
    lines = "\n".join(service.metrics.exposition().decode() for service in services).splitlines()
    begin = f'thalweg_drifts_total{{kind="{kind}",model="up/alpha"}}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(begin))


def serving(version: int, *services: Service) -> None:
    """Returns once each of them serves a snapshot."""
    wait(lambda: all(s.live.serving.router.snapshot.version == version for s in services))


async def test_two_replicas_record_a_drift_once_and_a_refreshed_model_is_not_recorded_again(
    database_url: str, replica: Replica, snapshot: Snapshot
) -> None:
    database = Database.open(database_url)
    first = publish(database, snapshot)
    database.close()
    with replica("one", database_url) as one, replica("two", database_url) as two:
        await rate(one, STEADY, 0.8)
        assert one.drifts.list() == []
        await rate(one, STEADY, 0.0)
        wait(lambda: all(s.live.serving.router.drifts() and s.follower._recorded for s in (one, two)))

        (found,) = one.drifts.list()
        assert found.drift == one.live.serving.router.drifts()[0] == two.live.serving.router.drifts()[0]
        assert (found.drift.model, found.snapshot) == ("up/alpha", first) and found.drift.shift < -0.3
        assert abs(found.drift.since - STEADY) <= 5 and found.drift.position <= STEADY + 40
        assert counted(one, two) == 1.0

        second = publish(one.database, replace(snapshot, position=one.feedback.head()))
        serving(second, one, two)
        assert one.live.serving.router.drifts() == () and one.drifts.list() == [found]
        one.snapshots.promote(first, "back")
        serving(first, one, two)
        wait(lambda: one.follower._recorded and two.follower._recorded)
        assert one.drifts.list() == [found] and counted(one, two) == 1.0
    with replica("three", database_url) as three:
        wait(lambda: three.follower._recorded)
        assert three.drifts.list() == [found] and counted(three) == 0.0


def call(service: Service, count: int, tokens: int) -> None:
    """``count`` more rows of the outcome log: calls of up/alpha with answers of about so many tokens."""
    rows = [
        {"model": "up/alpha", "task": 0, "status": "ok", "output_tokens": tokens + n % 7, "latency_ms": 10.0}
        for n in range(count)
    ]
    with service.database.session(write=True) as session:
        session.execute(insert(OutcomeLogTable), rows)
        session.commit()


async def test_replicas_record_a_drift_of_calls_once_and_agree_whenever_they_started(
    database_url: str, replica: Replica, snapshot: Snapshot
) -> None:
    database = Database.open(database_url)
    publish(database, snapshot)
    database.close()
    card = ModelCard("up/alpha")
    with replica("one", database_url) as one, replica("two", database_url) as two:
        call(one, 400, 500)
        wait(lambda: all(s.follower.outcomes.position == 400 for s in (one, two)))
        call(one, 100, 1500)
        wait(lambda: all(s.follower.outcomes.position == 500 for s in (one, two)))
        wait(lambda: counted(one, two, kind="tokens") == 1.0)
        (found,) = one.drifts.list()
        assert (found.drift.kind, found.drift.model, found.snapshot) == ("tokens", "up/alpha", None)
        assert abs(found.drift.since - 401) <= 3 and found.drift.shift == pytest.approx(math.log(3), abs=0.1)
        assert one.drifts.latest(after=0) == {} and one.live.serving.router.drifts() == ()
        with replica("three", database_url) as three:
            digests = {s.follower.outcomes.digest() for s in (one, two, three)}
            assert len(digests) == 1 and counted(three, kind="tokens") == 0.0
            assert 1400 < three.follower.outcomes.forecast(card).output_tokens < 1510
            call(one, 100, 500)
            wait(lambda: len(one.drifts.list()) == 2)
            position = 600
            wait(lambda: all(s.follower.outcomes.position == position for s in (one, two, three)))
            wait(lambda: len({s.follower.outcomes.digest() for s in (one, two, three)}) == 1)
            assert counted(one, two, three, kind="tokens") == 2.0
