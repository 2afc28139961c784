"""Replicas that read one log have equal state, whatever the order in which it was written."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from agent.router import Router
from agent.snapshot import Snapshot
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.serve.conftest import KINDS, WORDS, Replica, publish, request, wait
from tests.store.child import Child, append_random, start_together

pytestmark = pytest.mark.anyio

WRITERS, EACH = 8, 60


async def test_replicas_of_one_log_are_bit_for_bit_equal(
    postgres_url: str, replica: Replica, snapshot: Snapshot
) -> None:
    database = Database.open(postgres_url)
    publish(database, snapshot)
    with ExitStack() as stack:
        one, two = (stack.enter_context(replica(name, postgres_url)) for name in ("one", "two"))
        ranked = {}
        for word in WORDS.split()[:8]:
            for kind in KINDS:
                routed = await one.live.route(request(kind, word, explore=True), "route", "tests")
                names = [c.model for c in routed.decision.candidates]
                ranked[routed.id] = [name for name in names if name != routed.decision.model]
        children = [Child(append_random, postgres_url, seed, EACH, ranked) for seed in range(WRITERS)]
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
    assert routers[0].sources() == routers[1].sources() == alone.sources() != ()
    assert routers[0].raters() == routers[1].raters() == alone.raters()
    writer.close()
    database.close()
