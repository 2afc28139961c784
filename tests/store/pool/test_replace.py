"""A model takes the place of another: at once where it may be routed to, else once it has passed its check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.errors import InvalidInput, UnknownModel
from agent.types import ModelCard
from store.database import Database
from store.joins import JoinStore
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from store.pool.replace import consequences, replace_model

NOW = datetime(2026, 11, 27, tzinfo=UTC)
HERE = "http://localhost:9/v1"
OLD = PoolModel(ModelCard("acme/one", "acme", 1.0, 2.0, 4096, frozenset({"tools"}), output_tokens=900),
                Provider("openai", HERE, "ACME_KEY", "one"))  # fmt: skip
OTHER = PoolModel(ModelCard("acme/two", "acme", 3.0, 4.0, 8192), Provider("openai", HERE, "ACME_KEY", "two"))


@pytest.fixture
def pool(database: Database) -> ModelPool:
    pool = ModelPool(database)
    pool.sync([OLD, OTHER])
    return pool


def replaced(pool: ModelPool, new: str, check: bool = True, **given: Any) -> PoolModel:
    return replace_model(pool, "acme/one", new, given, check=check, now=NOW)[1]


def names(pool: ModelPool) -> list[str]:
    return [model.card.name for model in pool.list()]


def test_a_model_of_the_pool_replaces_at_once(pool: ModelPool) -> None:
    revision = pool.revision()
    assert replaced(pool, "acme/two").card.replaces == "acme/one"
    assert names(pool) == ["acme/two"] and pool.revision() > revision
    pool.sync([OLD, OTHER])
    assert names(pool) == ["acme/two"], "the pool file does not bring it back"


def test_a_new_model_replaces_once_it_has_passed_its_check(pool: ModelPool, database: Database) -> None:
    new = replaced(pool, "acme/three", price_input=5.0, price_output=6.0)
    assert names(pool) == ["acme/one", "acme/three", "acme/two"]
    assert new.card == ModelCard("acme/three", "acme", 5.0, 6.0, 8192, frozenset({"tools"}), output_tokens=900,
                                 replaces="acme/one")  # fmt: skip
    assert new.provider == Provider("openai", HERE, "ACME_KEY", "three"), "as the endpoint called the old one"
    assert new.unknown == {"context"}, "that of the old one would be a guess"
    joins, join = JoinStore(database), new.join
    assert join is not None and (join.state, join.reason) == ("added", "it replaces acme/one")
    joins.move(join, "failed", "no answer")
    assert "acme/one" in names(pool), "it serves on where the new one cannot"
    pool.update("acme/three", context=9000)
    again = pool.get("acme/three").join
    assert again is not None and joins.move(again, "checked", "it answers")
    assert names(pool) == ["acme/three", "acme/two"]
    found = consequences(OLD, pool.get("acme/three"))
    assert "with the key in ACME_KEY" in found[0] and found[2] == "acme/one has left the pool"


def test_unchecked_it_replaces_at_once(pool: ModelPool) -> None:
    new = replaced(pool, "acme/three", False, price_input=5.0, price_output=6.0)
    assert names(pool) == ["acme/three", "acme/two"] and new.join is not None and new.join.state == "trial"


def test_another_endpoint_and_its_key_are_taken_as_given(pool: ModelPool) -> None:
    elsewhere = Provider("openai", "http://localhost:7/v1", None, "x-3")
    assert replaced(pool, "acme/three", provider=elsewhere, capabilities=frozenset({"json"})).provider == elsewhere
    assert pool.get("acme/three").card.capabilities == {"json"}
    assert pool.get("acme/three").unknown == {"price_input", "price_output", "context"}


def test_what_cannot_be_is_named_and_changes_nothing(pool: ModelPool) -> None:
    for new, given, error, param in (
        ("acme/one", {}, InvalidInput, "name"),
        ("acme/two", {"price_input": 1.0}, InvalidInput, "price_input"),
        ("acme/four", {"price_input": -1.0}, InvalidInput, "price_input"),
    ):
        with pytest.raises(error) as found:
            replace_model(pool, "acme/one", new, given, check=True, now=NOW)
        assert found.value.param == param
    with pytest.raises(UnknownModel, match="did you mean 'acme/one'"):
        replace_model(pool, "acme/ones", "acme/three", {}, check=True, now=NOW)
    assert pool.list() == [OLD, OTHER]
