"""A pool file that changes while a server runs is taken over once it stays as it is; one with a mistake changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import BadDataFile
from store.database import Database
from store.joins import JoinStore
from store.pool.file import PoolFile
from store.pool.models import ModelPool, PoolSync
from store.pool.watch import PoolFileWatcher

LINE = """
  - {{name: {name}, provider: {{kind: openai, base_url: "http://localhost:9/v1"}}, price: {{input: {price}, output: 2}},
      context: 4000}}"""


def write(path: Path, **prices: float) -> None:
    """A pool file of models at these prices, written whole, as editors do it."""
    new = path.with_suffix(".new")
    new.write_text("version: 1\nmodels:" + "".join(LINE.format(name=name, price=p) for name, p in prices.items()))
    os.replace(new, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "pool.yaml", a=1, b=1)
    return tmp_path / "pool.yaml"


@pytest.fixture
def pool(database: Database, path: Path) -> ModelPool:
    pool = ModelPool(database)
    pool.sync(PoolFile.load(path))
    return pool


@pytest.fixture
def watcher(path: Path, pool: ModelPool) -> PoolFileWatcher:
    return PoolFileWatcher(path, pool)


def names(pool: ModelPool) -> list[str]:
    return [model.card.name for model in pool.list()]


def test_a_line_joins_changes_and_leaves(
    path: Path, pool: ModelPool, watcher: PoolFileWatcher, database: Database
) -> None:
    assert watcher.look() is None and pool.revision() == 1
    write(path, b=5, c=1)
    assert watcher.look() is None, "it may still be written"
    assert watcher.look() == PoolSync(joined=("c",), left=("a",), changed=("b",))
    assert names(pool) == ["b", "c"] and pool.get("b").card.price_input == 5.0
    joins = JoinStore(database).current()
    assert {name: join.state for name, join in joins.items()} == {"c": "added"}
    assert watcher.look() is None
    write(path, a=1, b=5, c=1)
    assert [watcher.look(), watcher.look()] == [None, PoolSync(joined=("a",))]
    assert JoinStore(database).current()["a"].state == "added", "a line that comes back joins again"


@pytest.mark.parametrize(
    "content", ["version: 1\nmodels: [{name: a}]", "models: [", None], ids=["wrong", "torn", "gone"]
)
def test_a_bad_file_is_told_once_and_changes_nothing(
    path: Path, pool: ModelPool, watcher: PoolFileWatcher, content: str | None
) -> None:
    path.unlink() if content is None else path.write_text(content)
    assert watcher.look() is None
    found = watcher.look()
    assert isinstance(found, BadDataFile) and str(path) in found.message
    assert watcher.look() is None and names(pool) == ["a", "b"]
    write(path, a=1)
    assert [watcher.look(), watcher.look()] == [None, PoolSync(left=("b",))]


def test_a_model_whose_check_failed_is_checked_again_when_its_line_changes(
    path: Path, pool: ModelPool, watcher: PoolFileWatcher, database: Database
) -> None:
    joins = JoinStore(database)

    def state(**prices: float) -> str:
        write(path, **prices)
        watcher.look()
        watcher.look()
        return joins.current()["c"].state

    assert state(a=1, b=1, c=1) == "added"
    joins.move(joins.current()["c"], "failed", "no answer")
    assert state(a=2, b=1, c=1) == "failed", "another line says nothing of it"
    assert state(a=2, b=1, c=3) == "added"


def test_what_api_and_cli_changed_stays_over_the_file(path: Path, pool: ModelPool, watcher: PoolFileWatcher) -> None:
    pool.update("a", price_input=9.0)
    pool.remove("b")
    write(path, a=5, b=5)
    watcher.look()
    assert watcher.look() == PoolSync(changed=("a",))
    assert names(pool) == ["a"] and pool.get("a").card.price_input == 9.0
