"""The pool in the database: file below, edits above."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InvalidInput, UnknownModel
from agent.types import ModelCard
from store.database import Database
from store.pool.file import PoolFile, PoolModel, Provider
from store.pool.models import ModelPool
from tests.store.build import POOL

LOCAL = PoolModel(ModelCard("local/a", "fam", 0.0, 0.0, 2048), Provider("embedded"))
REMOTE = PoolModel(
    ModelCard("vendor/b", "fam", 1.0, 2.0, 8192, frozenset({"json", "tools"}), {"math": 0.5}),
    Provider("openai", "https://api.vendor.com/v1", "KEY", "b-1"),
)
BY_HAND = PoolModel(ModelCard("hand/c", "", 3.0, 4.0, 1024), Provider("openai", "http://localhost:9/v1"))


@pytest.fixture
def pool(database: Database) -> ModelPool:
    """A pool synced with a file of two models."""
    made = ModelPool(database)
    made.sync([LOCAL, REMOTE])
    return made


def test_the_file_is_the_base(pool: ModelPool) -> None:
    assert pool.list() == [LOCAL, REMOTE]
    assert pool.get("vendor/b") == REMOTE
    cheaper = replace(REMOTE, card=replace(REMOTE.card, price_input=0.5))
    pool.sync([cheaper])
    assert pool.list() == [cheaper]


def test_the_packaged_file_comes_back_as_it_is(pool: ModelPool) -> None:
    models = PoolFile.load(POOL)
    pool.sync(models)
    assert pool.list() == sorted(models, key=lambda m: m.card.name)


def test_edits_survive_a_restart_and_new_file_values_show_beneath(pool: ModelPool, database: Database) -> None:
    edited = pool.update("vendor/b", price_input=9.0, capabilities=["vision"])
    assert (edited.card.price_input, edited.card.capabilities) == (9.0, frozenset({"vision"}))
    again = ModelPool(database)
    again.sync([LOCAL, replace(REMOTE, card=replace(REMOTE.card, price_input=0.5, context=99))])
    assert again.get("vendor/b") == edited.__class__(replace(edited.card, context=99), edited.provider)


def test_a_removed_model_stays_away_until_it_is_added(pool: ModelPool) -> None:
    pool.remove("vendor/b")
    pool.sync([LOCAL, REMOTE])
    assert pool.list() == [LOCAL]
    assert pool.list(include_removed=True) == [LOCAL, replace(REMOTE, removed=True)]
    with pytest.raises(UnknownModel):
        pool.get("vendor/b")
    back = replace(REMOTE, card=replace(REMOTE.card, price_input=7.0))
    pool.add(back)
    assert pool.get("vendor/b") == back


def test_a_model_added_by_hand_survives_the_file(pool: ModelPool) -> None:
    pool.add(BY_HAND)
    pool.sync([LOCAL])
    assert pool.list() == [BY_HAND, LOCAL]
    with pytest.raises(InvalidInput, match="already"):
        pool.add(BY_HAND)


def test_a_patched_model_that_the_file_drops_goes_and_returns_patched(pool: ModelPool) -> None:
    pool.update("vendor/b", context=77)
    pool.sync([LOCAL])
    assert pool.list(include_removed=True) == [LOCAL]
    pool.sync([LOCAL, REMOTE])
    assert pool.get("vendor/b").card.context == 77


def test_revision_moves_with_every_change_and_only_then(pool: ModelPool) -> None:
    seen = [pool.revision()]
    pool.sync([LOCAL, REMOTE])
    assert pool.revision() == seen[0]
    for change in (
        lambda: pool.update("local/a", family="x"),
        lambda: pool.remove("local/a"),
        lambda: pool.add(BY_HAND),
        lambda: pool.sync([REMOTE]),
    ):
        change()
        seen.append(pool.revision())
    assert seen == sorted(set(seen))


def test_an_unknown_model_says_what_is_close(pool: ModelPool) -> None:
    for call in (pool.get, pool.remove, lambda name: pool.update(name, context=1)):
        with pytest.raises(UnknownModel, match="did you mean 'vendor/b'"):
            call("vendr/b")
    with pytest.raises(UnknownModel, match="it holds local/a, vendor/b"):
        pool.get("zzz\x00")


@pytest.mark.parametrize(
    ("patch", "param", "message"),
    [
        ({"prize_input": 1.0}, "prize_input", "did you mean 'price_input'"),
        ({"price_input": -1.0}, "price_input", "greater than or equal to 0"),
        ({"context": "many"}, "context", "valid integer"),
        ({"capabilities": ["fly"]}, "capabilities.0", "'tools', 'vision' or 'json'"),
        ({"priors": {"math": 2.0}}, "priors.math", "less than or equal to 1"),
        ({"provider": {"kind": "openai"}}, "provider", "needs a base_url"),
        ({"available": False}, "available", "no field"),
    ],
)
def test_a_wrong_edit_changes_nothing(pool: ModelPool, patch: dict[str, object], param: str, message: str) -> None:
    before = pool.revision()
    with pytest.raises(InvalidInput, match=message) as caught:
        pool.update("vendor/b", **patch)
    assert caught.value.param == param
    assert pool.get("vendor/b") == REMOTE and pool.revision() == before


def test_a_provider_can_be_changed(pool: ModelPool) -> None:
    other = Provider("openai", "https://other.com/v1", None, "b-2")
    assert pool.update("vendor/b", provider=other).provider == other
    with pytest.raises(InvalidInput, match="context"):
        pool.add(replace(BY_HAND, card=replace(BY_HAND.card, context=0)))


def test_a_relative_sqlite_path_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database.open("sqlite:///here.db")
    ModelPool(database).sync([LOCAL])
    monkeypatch.chdir("/")
    assert ModelPool(database).list() == [LOCAL]
    database.close()
