"""A replica follows the store, and goes on serving where the store fails."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from agent.errors import StoreUnavailable
from agent.snapshot import Snapshot
from serve.errors import NotReady
from serve.service import Service
from serve.settings import ServeSettings
from store.database import Database
from store.feedback import FeedbackEvent
from tests.serve.conftest import new_home, publish, request, running, wait

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path, cache_dir: Path, snapshot: Snapshot) -> Path:
    return new_home(tmp_path / "home", cache_dir, snapshot).home


def opened(home: Path, pool_file: Path) -> AbstractContextManager[Service]:
    return running(ServeSettings(home=home, pool=pool_file))


def ready(service: Service) -> None:
    wait(lambda: service.follower.serving is not None)


def version(service: Service) -> int:
    return service.live.serving.router.snapshot.version


async def qualities(service: Service, kind: str) -> dict[str, float]:
    decision = (await service.live.route(request(kind), "route", "tests")).decision
    return {c.model: c.quality for c in decision.candidates}


def spoil(home: Path, version: int) -> None:
    database = Database.open(f"sqlite:///{home}/thalweg.db")
    with database.session(write=True) as session:
        session.execute(
            text("UPDATE snapshots SET tensors = zeroblob(length(tensors)) WHERE version = :v"), {"v": version}
        )
        session.commit()
    database.close()


async def test_without_a_snapshot_nothing_is_routed_and_the_reason_is_given(
    tmp_path: Path, cache_dir: Path, pool_file: Path
) -> None:
    home = new_home(tmp_path / "home", cache_dir).home
    with opened(home, pool_file) as service, pytest.raises(NotReady, match="there is no snapshot yet"):
        await service.live.route(request("sum"), "route", "tests")


async def test_replay_equals_live(home: Path, pool_file: Path) -> None:
    with opened(home, pool_file) as live:
        ready(live)
        for n in range(30):
            routed = await live.live.route(request("sum"), "chat", "tests")
            event = FeedbackEvent(routed.id, score=(n % 3) / 2, source="user", rater=f"r{n}")
            receipt = live.feedback.append([event]).result()[0]
            live.follower.wake()
        wait(lambda: live.live.serving.router.position == receipt.seq)
        with opened(home, pool_file) as replayed:
            ready(replayed)
            assert replayed.live.serving.router.position == receipt.seq
            for kind in ("sum", "poem"):
                assert await qualities(replayed, kind) == pytest.approx(await qualities(live, kind))


def test_a_corrupt_champion_leaves_the_old_one_serving(home: Path, pool_file: Path, snapshot: Snapshot) -> None:
    with opened(home, pool_file) as service:
        ready(service)
        second = service.snapshots.publish(snapshot, status="challenger", report={}, created_by="tests").version
        service.snapshots.promote(second, "good so far")
        spoil(home, second)
        wait(lambda: service.follower.degraded_reason)
        assert f"snapshot {second}" in str(service.follower.degraded_reason)
        assert version(service) == 1 and service.follower.unavailable_reason is None
        service.snapshots.promote(1, "back")
        wait(lambda: service.follower.degraded_reason is None)


def test_a_replica_that_starts_with_a_corrupt_champion_serves_the_one_before(
    home: Path, pool_file: Path, snapshot: Snapshot
) -> None:
    with opened(home, pool_file) as service:
        second = publish(service.database, snapshot)
    spoil(home, second)
    with opened(home, pool_file) as service:
        ready(service)
        assert version(service) == 1 and f"snapshot {second}" in str(service.follower.degraded_reason)


def test_a_snapshot_of_another_encoder_is_not_served(home: Path, pool_file: Path, snapshot: Snapshot) -> None:
    with opened(home, pool_file) as service:
        ready(service)
        foreign = replace(snapshot, meta={**snapshot.meta, "encoder": "another/encoder"})
        publish(service.database, foreign)
        wait(lambda: service.follower.degraded_reason)
        assert "another/encoder" in str(service.follower.degraded_reason) and version(service) == 1


async def test_a_database_that_goes_away_and_comes_back(home: Path, pool_file: Path) -> None:
    with opened(home, pool_file) as service:
        ready(service)
        before = await service.live.route(request("sum"), "route", "tests")
        for name in ("thalweg.db", "thalweg.db-wal", "thalweg.db-shm"):
            (home / name).rename(home / f"gone-{name}")
        wait(lambda: service.follower.unavailable_reason)
        service.follower.check_health()  # another replica would not have it either
        with pytest.raises(StoreUnavailable, match=r"thalweg\.db"):
            await service.live.route(request("sum"), "route", "tests")
        for name in ("thalweg.db", "thalweg.db-wal", "thalweg.db-shm"):
            (home / f"gone-{name}").rename(home / name)
        wait(lambda: service.follower.unavailable_reason is None)
        after = await service.live.route(request("sum"), "route", "tests")
        assert service.decisions.get(before.id) and service.decisions.get(after.id)


def test_a_changed_pool_is_noticed(home: Path, pool_file: Path) -> None:
    with opened(home, pool_file) as service:
        ready(service)
        service.pool.remove("up/beta")
        wait(lambda: "up/beta" not in {c.name for c in service.follower.pool_view.cards}, 2.0)


def test_a_replica_whose_following_thread_ended_or_is_stuck_is_not_healthy(
    home: Path, pool_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(home, pool_file) as service:
        ready(service)
        service.follower.check_health()
        for patch in ({"serve.routing.follower.STUCK_S": -1.0}, {"threading.Thread.is_alive": lambda self: False}):
            with monkeypatch.context() as patched:
                for name, value in patch.items():
                    patched.setattr(name, value)
                with pytest.raises(RuntimeError, match="has not moved"):
                    service.follower.check_health()
        service.follower.check_health()
