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
    assert adoption([lost, replace(EVEN, gap=-0.1)], 20)[0] == "trial"


def test_few_scores_or_no_tasks_decide_nothing() -> None:
    assert adoption([replace(EVEN, gap=0.9)], 7.9)[0] == "trial"
    assert adoption([], 100)[0] == "trial"
