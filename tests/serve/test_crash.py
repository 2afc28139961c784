"""Acknowledged feedback survives ``kill -9``, each event once, and replicas learn the same of it, odd rows among it or not."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from agent.encoding.encoder import WindowedEncoder
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Turn
from serve.routing.catch_up import CatchUp
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackLog
from store.log_pages import LogPages
from store.set_aside import SetAsideStore
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.serve.child import serve_feedback
from tests.serve.conftest import Replica, new_home, publish, wait
from tests.store.build import a_record
from tests.store.child import Child

ROUNDS = 10
"""Each kills two servers."""

SERVERS = 2
CLIENTS = 4
"""Of each server."""

KEY = "test-key-1234"

DECISIONS = 20
FOREIGN = ("d1", "d2", "d3")
"""Of another encoder, their texts stored."""

TEXTLESS, NOT_FINITE, UNREADABLE = ("d4", "d5"), ("d6", "d7"), ("d8",)

Event = dict[str, Any]


class Load:
    """Clients that post events, again only where the answer was lost."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}  # idempotency key -> status
        self.sent: dict[str, Event] = {}
        self._lost: SimpleQueue[list[Event]] = SimpleQueue()
        self._numbers = itertools.count()
        self._http = httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=10)

    def batches(self, rng: random.Random) -> Iterator[list[Event]]:
        """Events whose answers were lost, then new ones without end."""
        while not self._lost.empty():
            yield self._lost.get()
        while True:
            events = [self._event(rng) for _ in range(rng.randint(1, 3))]
            self.sent |= {event["idempotency_key"]: event for event in events}
            yield events

    def post(self, url: str, seed: int) -> None:
        """Post until the server is gone."""
        for events in self.batches(random.Random(seed)):
            if not self._post(url, events):
                return

    def post_lost(self, url: str) -> None:
        """Post the events whose answers were lost."""
        while not self._lost.empty():
            assert self._post(url, self._lost.get())

    def post_again(self, key: str, url: str) -> str:
        """Post an event that was acknowledged; returns what is answered."""
        assert self._post(url, [self.sent[key]])
        return self.acknowledged[key]

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _post(self, url: str, events: list[Event]) -> bool:
        try:
            response = self._http.post(f"{url}/feedback", json=events)
        except httpx.TransportError:
            self._lost.put(events)
            return False
        assert response.status_code == 202, response.text
        for event, result in zip(events, response.json()["results"], strict=True):
            self.acknowledged[event["idempotency_key"]] = result["status"]
        return True

    def _event(self, rng: random.Random) -> Event:
        number = next(self._numbers)
        return {
            "decision_id": f"d{rng.randrange(20)}",
            "score": round(rng.random(), 3),
            "rater": f"rater {number}",
            "idempotency_key": f"event {number}",
        }


@pytest.fixture
def env(
    tmp_path: Path, cache_dir: Path, pool_file: Path, database_url: str, snapshot: Snapshot, encoder: WindowedEncoder
) -> dict[str, str]:
    """A home with a champion and twenty decisions, some of them odd."""
    database = Database.open(database_url)
    publish(database, snapshot)
    writer = GroupCommitter(database)
    for i in range(DECISIONS):
        record = a_record(f"d{i}", prompt=None if f"d{i}" in TEXTLESS else f"prompt {i}")
        if record.id not in FOREIGN + TEXTLESS:
            [made] = encoder.encode([(Turn("user", f"prompt {i}"),)])
            if record.id in NOT_FINITE:
                made = replace(made, embedding=np.full_like(made.embedding, np.nan))
            record = replace(record, decision=replace(record.decision, encoded=made), encoder=encoder.fingerprint)
        DecisionLog(database, writer).append(record).result(10)
    writer.close()
    with database.session(write=True) as session:
        for name in UNREADABLE:
            session.execute(text("UPDATE decisions SET candidates = '[{}]' WHERE id = :id"), {"id": name})
        session.commit()
    database.close()
    home = str(new_home(tmp_path / "servers", cache_dir).home)
    return {
        "THALWEG_HOME": home, "THALWEG_POOL": str(pool_file), "THALWEG_API_KEY": KEY, "THALWEG_DATABASE_URL": database_url,
    }  # fmt: skip


def test_every_acknowledged_event_survives_kill_9_exactly_once_and_is_learned_by_all_replicas_alike(
    env: dict[str, str], database_url: str, replica: Replica, encoder: WindowedEncoder
) -> None:
    load, rng = Load(), random.Random(0)
    database = Database.open(database_url)
    log = FeedbackLog(database)
    with replica("survivor", database_url) as survivor:
        for _ in range(ROUNDS):
            servers = [Child(serve_feedback, env) for _ in range(SERVERS)]
            urls = [server.receive() for server in servers]
            with ThreadPoolExecutor(SERVERS * CLIENTS) as clients:
                posting = [clients.submit(load.post, url, rng.randrange(10**9)) for url in urls for _ in range(CLIENTS)]
                known = len(load.acknowledged)
                wait(lambda known=known: len(load.acknowledged) > known)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 0.2))
                for server in servers:
                    server.process.kill()
                    server.process.join()
            for client in posting:
                client.result()
        at_the_kills = set(load.acknowledged)
        kept = Counter(row.event.idempotency_key for row in log.list(limit=10**6))
        assert max(kept.values()) == 1 and at_the_kills <= set(kept)

        server = Child(serve_feedback, env)
        url = server.receive()
        load.post_lost(url)
        assert load.post_again("event 0", url) == "duplicate"
        server.process.kill()
        load.close()
        rows = log.list(limit=10**6)
        assert Counter(row.event.idempotency_key for row in rows) == Counter(load.sent.keys())
        assert all(load.sent[str(row.event.idempotency_key)]["score"] == row.event.score for row in rows)
        assert len(load.sent) > 2 * ROUNDS * SERVERS  # hundreds, but on a machine that does other work too

        odd = {row.seq for row in rows if row.event.decision_id in TEXTLESS + NOT_FINITE + UNREADABLE}
        aside = SetAsideStore(database)
        with replica("fresh", database_url) as fresh:
            routers = [service.live.serving.router for service in (survivor, fresh)]
            wait(lambda: all(router.position == log.head() for router in routers))
            alone = Router(SnapshotStore(database).load(1), routers[0].models)
            CatchUp(LogPages(database, log, encoder), aside, page=7).finish([alone])
            assert len({router.digest() for router in (*routers, alone)}) == 1
            assert {router.n_set_aside for router in (*routers, alone)} == {len(odd)}
            [user] = alone.sources()
            assert user.n_ratings == len(rows) - len(odd)
            assert sorted(row.seq for row in aside.list(limit=10**6)) == sorted(odd)
            assert survivor.follower.unavailable_reason is None
    database.close()
