# ruff: noqa: F811  (fixtures are imported, then asked for by name)
"""What routing costs, in one machine state: the encoder alone, the router alone and while it learns, and `/v1/route` over HTTP.

Run by ``make bench``. Asserts nothing on time; prints a table. Calls take turns, one of each a round, so that a busy
machine slows all of them alike and the ratio stands.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from agent.encoding.encoder import WindowedEncoder
from agent.observations import Observation
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import ModelCard, RouteRequest, Turn
from serve.service import SWITCH_INTERVAL_S
from tests.benchmarks.made_traffic import made_cards, made_log, made_prompts, made_snapshot
from tests.serve.conftest import cache_dir, encoder, pool_file, snapshot, upstream  # noqa: F401
from tests.serve.test_live import Live, live  # noqa: F401

PROMPT = "Please write a short poem about an old harbour town in the evening rain."
"""15 tokens of the bundled encoder."""

WARM_UP, ROUNDS = 30, 300
ROWS, PAGE, PAUSE_S = 4000, 500, 0.005
THROUGHPUT_S = 5.0
CLIENTS = (1, 16)
TALK = (Turn("user", PROMPT),)


class Client:
    """A raw keep-alive connection that asks for a route of `PROMPT`."""

    def __init__(self, live: Live) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        self._headers = {"authorization": f"Bearer {live.key}", "content-type": "application/json"}
        self._body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": PROMPT}]})

    def route(self) -> None:
        self._connection.request("POST", "/v1/route", self._body, self._headers)
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def router(snapshot: Snapshot) -> Router:
    cards = [ModelCard(name, price_input=1.0, price_output=2.0, context=32_000) for name in snapshot.models]
    return Router(snapshot, cards)


@pytest.fixture(scope="module")
def large() -> Snapshot:
    return made_snapshot()


@pytest.fixture(scope="module")
def decide(router: Router, encoder: WindowedEncoder) -> Callable[[], object]:
    prompt, request, rng = encoder.encode([TALK])[0], RouteRequest(TALK), np.random.default_rng(0)
    return lambda: router.route(prompt, request, rng)


@pytest.fixture(scope="module")
def embed(encoder: WindowedEncoder) -> Callable[[], object]:
    assert encoder.encode([TALK])[0].tokens == 15
    return lambda: encoder.encode([TALK])


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Iterator[list[tuple[str, ...]]]:
    """Rows to print at the test's end, the first a heading."""
    rows: list[tuple[str, ...]] = []
    yield rows
    if not rows:
        return
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    with capsys.disabled():
        print()
        for row in rows:
            print(
                "  "
                + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, width)))
            )


def test_the_encoder_alone(benchmark: BenchmarkFixture, embed: Callable[[], object]) -> None:
    benchmark.pedantic(embed, rounds=ROUNDS, warmup_rounds=WARM_UP)


def test_the_router_alone(benchmark: BenchmarkFixture, decide: Callable[[], object]) -> None:
    benchmark.pedantic(decide, rounds=ROUNDS, warmup_rounds=WARM_UP)


def test_route_over_http_against_the_encoder(
    benchmark: BenchmarkFixture,
    live: Live,
    embed: Callable[[], object],
    decide: Callable[[], object],
    table: list[tuple[str, ...]],
) -> None:
    """One client; each round times the encoder, the router and a request, one after the other."""
    client = Client(live)
    calls = {"encoder, 15 tokens": embed, "Router.route": decide, "/v1/route, 1 client": client.route}
    spent: dict[str, list[float]] = {name: [] for name in calls}

    def interleaved() -> None:
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - started)

    benchmark.pedantic(interleaved, rounds=ROUNDS, warmup_rounds=WARM_UP)
    client.close()
    times = {name: quantiles(found[WARM_UP:]) for name, found in spent.items()}
    floor = times["encoder, 15 tokens"]
    table.append(("ms a call", "p50", "p90", "p99", "p50 / encoder's"))
    for name, found in times.items():
        ms = [f"{1e3 * t:.2f}" for t in found]
        table.append((name, *ms, f"{found[0] / floor[0]:.2f}"))
        benchmark.extra_info[name] = dict(zip(("p50_ms", "p90_ms", "p99_ms"), map(float, ms)))
    benchmark.extra_info["ratio"] = times["/v1/route, 1 client"][0] / floor[0]


def test_throughput(
    benchmark: BenchmarkFixture,
    live: Live,
    table: list[tuple[str, ...]],
) -> None:
    """Requests a second of clients that each ask again as soon as they are answered, from this one process."""
    table.append(("/v1/route", "requests/s", "p50 ms", "p99 ms"))

    def measure() -> None:
        for clients in CLIENTS:
            waits = [t for found in ask_at_once(live, clients, THROUGHPUT_S) for t in found]
            p50, _, p99 = quantiles(waits)
            table.append(
                (
                    f"{clients} client{'s' * (clients > 1)}",
                    f"{len(waits) / THROUGHPUT_S:.0f}",
                    f"{1e3 * p50:.1f}",
                    f"{1e3 * p99:.1f}",
                )
            )
            benchmark.extra_info[f"{clients} clients, requests/s"] = len(waits) / THROUGHPUT_S

    benchmark.pedantic(measure, rounds=1)


def test_learning_beside_routing(benchmark: BenchmarkFixture, large: Snapshot, table: list[tuple[str, ...]]) -> None:
    """Rows learned a second, and how long `Router.route` takes meanwhile: asked every few milliseconds, in this thread.

    Of decisions that the router's own snapshot made, whose estimates the log holds, and of those of an earlier one.
    """
    table.append(("Router, 2,000 prompts, 11 models", "rows/s", "p50 ms", "p90 ms", "p99 ms"))
    request, rng = RouteRequest(TALK), np.random.default_rng(0)
    asked, log = made_prompts(200, seed=2)[1], made_log(ROWS, Router(large, made_cards()))
    earlier = [replace(row, estimate=None) for row in log]

    def ask(router: Router, until: Callable[[int], bool]) -> list[float]:
        waits: list[float] = []
        while not until(len(waits)):
            started = time.perf_counter()
            router.route(asked[len(waits) % len(asked)], request, rng)
            waits.append(time.perf_counter() - started)
            time.sleep(PAUSE_S)
        return waits

    def learn(router: Router, rows: Sequence[Observation]) -> float:
        started = time.perf_counter()
        for first in range(0, len(rows), PAGE):
            router.learn_many(rows[first : first + PAGE])
        return time.perf_counter() - started

    def learn_beside(router: Router, rows: Sequence[Observation]) -> tuple[float, list[float]]:
        with ThreadPoolExecutor(1) as learner:
            learning = learner.submit(learn, router, rows)
            waits = ask(router, lambda _: learning.done())
        return learning.result(), waits

    def measure() -> None:
        quiet = ask(Router(large, made_cards()), lambda count: count == ROUNDS)[WARM_UP:]
        add("nothing is learned", "", quiet)
        for name, rows in (("beside rows of this snapshot", log), ("beside rows of an earlier one", earlier)):
            seconds, waits = learn_beside(Router(large, made_cards()), rows)
            add(name, f"{len(rows) / seconds:.0f}", waits)
        alone = learn(Router(large, made_cards()), log)
        table.append(("this snapshot's, nothing is routed", f"{len(log) / alone:.0f}", "", "", ""))

    def add(name: str, rows: str, waits: Sequence[float]) -> None:
        table.append((name, rows, *(f"{1e3 * t:.2f}" for t in quantiles(waits))))
        benchmark.extra_info[name] = {"rows/s": rows, "route p99 ms": 1e3 * quantiles(waits)[2]}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as a replica does
    try:
        benchmark.pedantic(measure, rounds=1)
    finally:
        sys.setswitchinterval(interval)


def ask_at_once(live: Live, clients: int, seconds: float) -> list[list[float]]:
    """By client, how long each of its requests took."""
    waits: list[list[float]] = [[] for _ in range(clients)]
    ready = threading.Barrier(clients)

    def ask(found: list[float]) -> None:
        client = Client(live)
        client.route()
        ready.wait()
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            client.route()
            found.append(time.perf_counter() - started)
        client.close()

    threads = [threading.Thread(target=ask, args=(found,)) for found in waits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(waits), "a client was never answered"
    return waits


def quantiles(times: Sequence[float]) -> tuple[float, float, float]:
    """p50, p90, p99 in seconds."""
    found = np.quantile(times, [0.5, 0.9, 0.99])
    return float(found[0]), float(found[1]), float(found[2])
