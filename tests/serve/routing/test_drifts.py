"""A model that falls silently: each replica finds it, the store keeps it once, and a new champion has heard of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.snapshot import Snapshot
from serve.http.schemas import ChatBody, read
from serve.providers.openai import OpenAIProvider
from serve.service import Service
from serve.settings import ServeSettings
from store.database import Database
from store.feedback import FeedbackEvent
from store.snapshots import SnapshotStore
from tests.serve.conftest import WORDS, prompt, wait

pytestmark = pytest.mark.anyio

STEADY = 60
"""Scores of up/alpha before it falls."""


@contextmanager
def replica(home: Path, cache_dir: Path, pool_file: Path, url: str) -> Iterator[Service]:
    """A server without its HTTP, on a shared database."""
    home.mkdir()
    (home / "cache").symlink_to(cache_dir)
    env = {"THALWEG_HOME": str(home), "THALWEG_POOL": str(pool_file), "THALWEG_DATABASE_URL": url}
    provider = OpenAIProvider(os.environ, timeout_s=1.0, connect_timeout_s=1.0)
    service = Service.open(ServeSettings.from_env(env), {"openai": provider}, ())
    try:
        wait(lambda: service.follower.serving is not None)
        yield service
    finally:
        service.follower.stop()
        service.live.close()
        service.writer.close()
        service.database.close()


async def learn_one(service: Service, count: int, score: float) -> None:
    """``count`` answers of up/alpha to river prompts get this score; returns once the replica has heard it."""
    for n in range(count):
        said = [{"role": "user", "content": prompt("river", WORDS.split()[n % 20])}]
        routed = await service.live.route(read(ChatBody, {"model": "up/alpha", "messages": said}), "chat", "tests")
        receipt = service.feedback.append([FeedbackEvent(routed.id, score, "judge")]).result()[0]
    wait(lambda: service.live.serving.router.position == receipt.seq)


def counted(*services: Service) -> float:
    """Drifts of up/alpha in the replicas' metrics together."""
    lines = "\n".join(service.metrics.exposition().decode() for service in services).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('thalweg_drifts_total{model="up/alpha"}'))


def serving(version: int, *services: Service) -> None:
    """Returns once each of them serves a snapshot."""
    wait(lambda: all(s.live.serving.router.snapshot.version == version for s in services))


async def test_two_replicas_record_a_drift_once_and_a_refreshed_model_is_not_told_of_again(
    database_url: str, tmp_path: Path, cache_dir: Path, pool_file: Path, snapshot: Snapshot
) -> None:
    database = Database.open(database_url)
    first = SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="tests").version
    database.close()
    with (
        replica(tmp_path / "one", cache_dir, pool_file, database_url) as one,
        replica(tmp_path / "two", cache_dir, pool_file, database_url) as two,
    ):
        await learn_one(one, STEADY, 0.8)
        assert one.drifts.list() == []
        await learn_one(one, STEADY, 0.0)
        wait(lambda: all(s.live.serving.router.drifts() and s.follower._recorded for s in (one, two)))

        (found,) = one.drifts.list()
        assert found.drift == one.live.serving.router.drifts()[0] == two.live.serving.router.drifts()[0]
        assert (found.drift.model, found.snapshot) == ("up/alpha", first) and found.drift.shift < -0.3
        assert abs(found.drift.since - STEADY) <= 5 and found.drift.position <= STEADY + 40
        assert counted(one, two) == 1.0

        refreshed = replace(snapshot, position=one.feedback.head())
        second = one.snapshots.publish(refreshed, status="champion", report={}, created_by="tests").version
        serving(second, one, two)
        assert one.live.serving.router.drifts() == () and one.drifts.list() == [found]
        one.snapshots.promote(first, "back")
        serving(first, one, two)
        wait(lambda: one.follower._recorded and two.follower._recorded)
        assert one.drifts.list() == [found] and counted(one, two) == 1.0
    with replica(tmp_path / "three", cache_dir, pool_file, database_url) as three:
        wait(lambda: three.follower._recorded)
        assert three.drifts.list() == [found] and counted(three) == 0.0
