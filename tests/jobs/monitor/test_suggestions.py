"""Which models no task needs, from the logs of a store whose truth is known."""

from __future__ import annotations

import pytest

from agent.errors import InvalidInput
from agent.types import ModelCard
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackLog
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from store.suggestions import suggestions
from store.views import SuggestionsView
from store.writer import GroupCommitter
from tests.jobs.made import BEST, COSTS, live, publish, records


def suggested(database: Database, writer: GroupCommitter) -> SuggestionsView:
    return suggestions(database, DecisionLog(database, writer), FeedbackLog(database))


def test_models_that_tasks_need_are_kept_and_one_that_none_needs_is_named(
    database: Database, writer: GroupCommitter
) -> None:
    with pytest.raises(InvalidInput, match="no champion yet"):
        suggested(database, writer)
    here = Provider("openai", "http://localhost:9/v1")
    ModelPool(database).sync([PoolModel(ModelCard(name, price_input=1.0), here) for name in COSTS])
    ModelPool(database).add(PoolModel(ModelCard("late", price_input=1.0, price_output=1.0), here))
    champion = publish(database, misled=False)
    assert {m.advice for m in suggested(database, writer).models} == {"not sure"}, "nothing was decided yet"
    live(database, champion, records(900, seed=7))
    found = suggested(database, writer)
    assert (found.decisions, found.scored) == (900, 900)
    by_name = {m.model: m for m in found.models}
    for name in BEST.values():
        needed = by_name[name]
        assert needed.advice == "keep" and needed.why.startswith("needed by 1 task") and len(needed.tasks) == 1
        assert needed.quality.high is not None and needed.quality.high < 0.0 and 0.25 < needed.share < 0.4
    cheap = by_name["cheap"]
    assert cheap.advice != "keep" and cheap.tasks == [] and cheap.share < 0.1
    assert cheap.cost_usd.low is not None and cheap.cost_usd.low > 0.0, "the others cost more"
    assert by_name["late"].advice == "not sure" and "its joining the pool has not ended" in by_name["late"].why
