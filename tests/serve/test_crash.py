"""Acknowledged feedback survives ``kill -9``, each event once."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest

from agent.feedback.ledger import Ledger
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackLog
from store.settings import StoreSettings
from store.writer import GroupCommitter
from tests.serve.child import serve_feedback
from tests.serve.conftest import wait
from tests.store.build import a_record
from tests.store.child import Child

KILLS = 20
CLIENTS = 4
KEY = "test-key-1234"

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
def env(tmp_path: Path, pool_file: Path) -> dict[str, str]:
    """A home with twenty decisions."""
    env = {"THALWEG_HOME": str(tmp_path / "home"), "THALWEG_POOL": str(pool_file), "THALWEG_API_KEY": KEY}
    database = Database.open(StoreSettings.from_env(env).database_url)
    writer = GroupCommitter(database)
    for i in range(20):
        DecisionLog(database, writer).append(a_record(f"d{i}", prompt=f"prompt {i}")).result(10)
    writer.close()
    database.close()
    return env


def test_every_acknowledged_event_survives_kill_9_exactly_once(env: dict[str, str]) -> None:
    load, rng = Load(), random.Random(0)
    for _ in range(KILLS):
        server = Child(serve_feedback, env)
        url = server.receive()
        with ThreadPoolExecutor(CLIENTS) as clients:
            posting = [clients.submit(load.post, url, rng.randrange(10**9)) for _ in range(CLIENTS)]
            known = len(load.acknowledged)
            wait(lambda known=known: len(load.acknowledged) > known)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, 0.2))
            server.process.kill()
            server.process.join()
        for client in posting:
            client.result()
    at_the_kills = set(load.acknowledged)

    database = Database.open(StoreSettings.from_env(env).database_url, read_only=True)
    log = FeedbackLog(database, GroupCommitter(database))
    kept = Counter(row.event.idempotency_key for row in log.list(limit=10**6))
    assert max(kept.values()) == 1 and at_the_kills <= set(kept)

    server = Child(serve_feedback, env)
    load.post_lost(server.receive())
    server.process.kill()
    load.close()
    rows = [row.event for row in log.list(limit=10**6)]
    assert Counter(e.idempotency_key for e in rows) == Counter(load.sent.keys())
    assert all(load.sent[str(e.idempotency_key)]["score"] == e.score for e in rows)
    assert "duplicate" in load.acknowledged.values()  # at least one answer got lost after its commit

    ledger = Ledger()
    position = 0
    while page := log.tail(position):
        for observation in page:
            ledger.learn_one(observation)
        position = page[-1].seq
    assert [report.n_ratings for report in ledger.sources()] == [len(load.sent)]
    assert len(load.sent) > 20 * KILLS
    database.close()
