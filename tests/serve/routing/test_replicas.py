"""Replicas that follow one log end in one state, whatever the order in which its writers came."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.router import Router
from agent.snapshot import Snapshot
from serve.http.schemas import ChatBody, read
from serve.providers.openai import OpenAIProvider
from serve.service import Service
from serve.settings import ServeSettings
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.serve.conftest import KINDS, WORDS, prompt, wait
from tests.store.child import Child, chatter, start_together

pytestmark = pytest.mark.anyio

WRITERS, EACH = 8, 60


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


async def test_replicas_of_one_log_are_bit_for_bit_equal(
    postgres_url: str, tmp_path: Path, cache_dir: Path, pool_file: Path, snapshot: Snapshot
) -> None:
    database = Database.open(postgres_url)
    SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="tests")
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(replica(tmp_path / name, cache_dir, pool_file, postgres_url)) for name in ("one", "two")
        )
        ranked = {}
        for word in WORDS.split()[:8]:
            for kind in KINDS:
                said = read(ChatBody, {"messages": [{"role": "user", "content": prompt(kind, word)}]})
                routed = await one.live.route(said, "route", "tests")
                names = [c.model for c in routed.decision.candidates]
                ranked[routed.id] = [name for name in names if name != routed.decision.model]
        children = [Child(chatter, postgres_url, seed, EACH, ranked) for seed in range(WRITERS)]
        start_together(children)
        for child in children:
            child.join()
        routers = [service.live.serving.router for service in (one, two)]
        last = one.feedback.head()
        wait(lambda: all(router.position == last for router in routers))
    writer = GroupCommitter(database)
    log = FeedbackLog(database, writer)
    assert log.count_since(0) == WRITERS * EACH
    alone = Router(SnapshotStore(database).load(1), routers[0].models)
    while page := log.tail(alone.position, 1000):
        for row in page:
            alone.learn_one(row)
    assert routers[0].digest() == routers[1].digest() == alone.digest()
    assert routers[0].ledger.state() == routers[1].ledger.state() == alone.ledger.state()
    writer.close()
    database.close()
