"""What this room's tests share: a small world of four kinds of prompts, and three models with one talent each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.encoding.encoder import WindowedEncoder
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import Turn
from store.database import Database
from store.encoders.load import load_encoder
from store.encoders.onnx import BUNDLED
from store.settings import StoreSettings
from store.snapshots import SnapshotStore
from tests.serve.upstream import Upstream

KINDS = {
    "river": "Name a river that flows through {}.",
    "sum": "What is {} plus 17? Give only the number.",
    "code": "def {}(x):\n    # write this Python function\n",
    "poem": "Write a short poem about {} in the rain.",
}
WORDS = (
    "Paris Oslo Rome Lima Cairo Delhi Tokyo Quito Bonn Kyoto Turin Perth Leeds Basel Porto Ghent Lyon Split Graz Bern"
)
TALENTS = {"up/alpha": {"river", "poem"}, "up/beta": {"sum"}, "up/gamma": {"code"}}

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


@pytest.fixture(scope="session")
def snapshot(encoder: WindowedEncoder) -> Snapshot:
    """A trained snapshot of the small world."""
    kinds = [kind for kind in KINDS for _ in WORDS.split()]
    texts = tuple(template.format(word) for template in KINDS.values() for word in WORDS.split())
    encoded = encoder.encode([(Turn("user", text),) for text in texts])
    models = (*TALENTS, "local/smollm2")
    scores = [[0.8 if kind in TALENTS.get(model, ()) else 0.6 for model in models] for kind in kinds]
    examples = Examples(
        ids=tuple(f"seed-{i}" for i in range(len(texts))),
        embeddings=np.stack([e.embedding for e in encoded]),
        features=np.stack([e.features for e in encoded]),
        scores=np.array(scores),
        models=models,
        texts=texts,
    )
    return fit(examples, encoder=encoder.fingerprint)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def pool_file(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.yaml"
    path.write_text(POOL.format(url=upstream.base_url))
    return path


def prompt(kind: str, word: str = "Vienna") -> str:
    """A prompt of one of the `KINDS` that was not trained on."""
    return KINDS[kind].format(word)


def new_home(home: Path, cache_dir: Path, *snapshots: Snapshot) -> StoreSettings:
    """A home whose cache is shared, with ``snapshots`` published, the last as champion."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(cache_dir)
    settings = StoreSettings.from_env({"THALWEG_HOME": str(home)})
    database = Database.open(settings.database_url)
    for snapshot in snapshots:
        SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="tests")
    database.close()
    return settings


def wait(until: Callable[[], Any], patience_s: float = 20.0) -> None:
    """Returns once ``until`` holds."""
    deadline = time.monotonic() + patience_s
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
