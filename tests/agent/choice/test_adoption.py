"""A model on trial is adopted, declined, or stays on trial, by how it stands on every task."""

from __future__ import annotations

from dataclasses import replace

from agent.choice.adoption import TaskStanding, adoption

EVEN = TaskStanding(1, "sums", 0.25, 0.7, 0.2, "b", 0.7, 0.1, 0.0)


def test_ahead_counts_where_it_is_sure_or_the_interval_is_narrow() -> None:
    slightly = replace(EVEN, gap=0.05)
    assert adoption([slightly], 20)[0] == "trial"
    narrow, reason = adoption([slightly, replace(slightly, stderr=0.1, name="code")], 20)
    assert narrow == "adopted" and "1 task, 25% of the prompts: code" in reason
    assert adoption([replace(EVEN, gap=0.4)], 20)[0] == "adopted"


def test_it_is_declined_only_where_every_task_is_lost() -> None:
    lost = replace(EVEN, gap=-0.4, quality=0.3)
    assert adoption([lost, lost], 20)[0] == "declined"
    assert adoption([lost, replace(EVEN, gap=-0.05)], 20)[0] == "trial"
    verdict, reason = adoption([lost] * 5 + [replace(EVEN, gap=-0.05)], 20)
    assert verdict == "declined" and "expected to be on 10% of the prompts: at best with 41%" in reason
    assert adoption([lost] * 5 + [replace(EVEN, gap=0.05)], 20)[0] == "trial", "it is ahead on one"


def test_a_price_that_no_quality_is_worth_needs_no_scores() -> None:
    dear = replace(EVEN, gap=-1.0, cost=0.3, rival_cost=0.003, ceiling=-0.01)
    verdict, reason = adoption([dear, dear], 0)
    assert verdict == "declined" and "$0.3 a request beside $0.003 of b" in reason
    assert adoption([dear, replace(dear, ceiling=0.01)], 0)[0] == "trial"


def test_few_scores_or_no_tasks_decide_nothing() -> None:
    assert adoption([replace(EVEN, gap=0.9)], 7.9)[0] == "trial"
    assert adoption([], 100)[0] == "trial"
