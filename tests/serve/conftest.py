"""What this room's tests share: a trained snapshot for four kinds of prompts and three models, each best at some kinds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.encoding.encoder import WindowedEncoder
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import RouteRequest, Turn
from serve.providers.openai import OpenAIProvider
from serve.service import Service
from serve.settings import ServeSettings
from store.database import Database
from store.encoders.backends import BUNDLED, load_encoder
from store.settings import StoreSettings
from store.snapshots import SnapshotStore
from tests.store.build import migrated_file
from tests.upstream import Upstream

KINDS = {
    "river": "Name a river that flows through {}.",
    "sum": "What is {} plus 17? Give only the number.",
    "code": "def {}(x):\n    # write this Python function\n",
    "poem": "Write a short poem about {} in the rain.",
}
WORDS = (
    "Paris Oslo Rome Lima Cairo Delhi Tokyo Quito Bonn Kyoto Turin Perth Leeds Basel Porto Ghent Lyon Split Graz Bern"
)
BEST_AT = {"up/alpha": {"river", "poem"}, "up/beta": {"sum"}, "up/gamma": {"code"}}

POOL = """
version: 1
models:
  - {{name: up/alpha, provider: {{kind: openai, base_url: "{url}", model: alpha-1}}, price: {{input: 1, output: 2}},
      context: 32000, capabilities: [tools, json]}}
  - {{name: up/beta, provider: {{kind: openai, base_url: "{url}"}}, price: {{input: 1, output: 2}}, context: 32000}}
  - {{name: up/gamma, provider: {{kind: openai, base_url: "{url}"}}, price: {{input: 1, output: 2}}, context: 32000}}
  - {{name: up/locked, provider: {{kind: openai, base_url: "{url}", api_key_env: THALWEG_TEST_NO_SUCH_KEY}},
      price: {{input: 1, output: 2}}, context: 32000, capabilities: [vision]}}
  - {{name: local/smollm2, provider: {{kind: embedded}}, price: {{input: 0, output: 0}}, context: 2048}}
"""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What coroutine tests run on."""
    return "asyncio"


@pytest.fixture(scope="session")
def cache_dir(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that outlives the session: the encoder's graph and the local model's weights take a minute."""
    cache = pytestconfig.cache
    return cache.mkdir("thalweg") if cache else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def encoder(cache_dir: Path) -> WindowedEncoder:
    return load_encoder(BUNDLED, cache_dir)


@pytest.fixture(scope="session", autouse=True)
def one_encoder(encoder: WindowedEncoder) -> Iterator[None]:
    """Servers in this process share the encoder; one that runs as a process of its own opens its own."""

    def shared(name: str, *rest: Any) -> WindowedEncoder:
        return encoder if name == BUNDLED else load_encoder(name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.service.load_encoder", shared)
        yield


@pytest.fixture(scope="session")
def snapshot(encoder: WindowedEncoder) -> Snapshot:
    """A snapshot trained on the `KINDS`."""
    kinds = [kind for kind in KINDS for _ in WORDS.split()]
    texts = tuple(template.format(word) for template in KINDS.values() for word in WORDS.split())
    encoded = encoder.encode([(Turn("user", text),) for text in texts])
    models = (*BEST_AT, "local/smollm2")
    scores = [[0.8 if kind in BEST_AT.get(model, ()) else 0.6 for model in models] for kind in kinds]
    examples = Examples(
        ids=tuple(f"seed-{i}" for i in range(len(texts))),
        embeddings=np.stack([e.embedding for e in encoded]),
        features=np.stack([e.features for e in encoded]),
        scores=np.array(scores),
        models=models,
        texts=texts,
    )
    return fit(examples, encoder=encoder.fingerprint)


@pytest.fixture(scope="session")
def misled(snapshot: Snapshot) -> Snapshot:
    """The same, but taking each model for the next one."""
    models = [*snapshot.models[1:], snapshot.models[0]]
    heads = tuple(replace(head, model=models[snapshot.models.index(head.model)]) for head in snapshot.heads)
    return replace(snapshot, meta={**snapshot.meta, "models": models}, heads=heads)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def pool_file(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.yaml"
    path.write_text(POOL.format(url=upstream.base_url))
    return path


@contextmanager
def running(settings: ServeSettings) -> Iterator[Service]:
    """A server without its HTTP."""
    provider = OpenAIProvider(os.environ, timeout_s=1.0, connect_timeout_s=1.0)
    service = Service(settings, {"openai": provider}, ())
    try:
        yield service
    finally:
        service.follower.stop()
        service.live.close()
        service.writer.close()
        service.database.close()


Replica = Callable[[str, str], AbstractContextManager[Service]]


@pytest.fixture
def replica(tmp_path: Path, cache_dir: Path, pool_file: Path) -> Replica:
    """``with replica(name, database_url) as service``: one of several servers of a database, once it serves."""

    @contextmanager
    def started(name: str, database_url: str) -> Iterator[Service]:
        home = new_home(tmp_path / name, cache_dir).home
        with running(ServeSettings(home=home, pool=pool_file, database_url=database_url)) as service:
            wait(lambda: service.follower.serving is not None)
            yield service

    return started


def publish(database: Database, snapshot: Snapshot) -> int:
    """Make ``snapshot`` the champion; returns its version."""
    return SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="tests").version


def prompt(kind: str, word: str = "Vienna") -> str:
    """A prompt of one of the `KINDS` that was not trained on."""
    return KINDS[kind].format(word)


def request(kind: str, word: str = "Vienna", **fields: Any) -> RouteRequest:
    """A request for the best model for a prompt of this kind."""
    greedy: dict[str, Any] = {"explore": False, "cost_quality_tradeoff": 1.0}
    return RouteRequest((Turn("user", prompt(kind, word)),), **greedy | fields)


def new_home(home: Path, cache_dir: Path, *snapshots: Snapshot) -> StoreSettings:
    """A home whose cache is shared, with ``snapshots`` published, the last as champion."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(cache_dir)
    settings = StoreSettings.from_env({"THALWEG_HOME": str(home)})
    migrated_file(home / "thalweg.db")
    database = Database.open(settings.database_url)
    for snapshot in snapshots:
        publish(database, snapshot)
    database.close()
    return settings


def wait(until: Callable[[], Any], timeout_s: float = 20.0, period_s: float = 0.02) -> None:
    """Returns once ``until`` holds, which is asked every ``period_s``."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(period_s)
