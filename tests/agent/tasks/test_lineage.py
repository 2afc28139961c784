"""Tasks are kept, spawned, merged and retired, and an id is never given twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.tasks.lineage import Lineage, match

NONE = -1


def matched(new: list[int], old: list[int], old_ids: tuple[int, ...], next_id: int) -> Lineage:
    return match(np.array(new, np.int64), np.array(old, np.int64), old_ids, next_id)


def events(lineage: Lineage) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(e.kind, e.task, e.parents) for e in lineage.events]


def test_the_first_tasks_are_spawned_from_nothing() -> None:
    first = matched([0, 0, 1], [NONE] * 3, (), 0)
    assert first.ids == (0, 1) and first.parents == ((), ())
    assert events(first) == [("spawn", 0, ()), ("spawn", 1, ())]
    assert [e.figures for e in first.events] == [{"prompts": 2.0}, {"prompts": 1.0}]


def test_communities_keep_their_ids_whatever_their_new_numbers() -> None:
    again = matched([0] * 4 + [1] * 3, [8] * 4 + [5] * 3, (5, 8), 9)
    assert again.ids == (8, 5) and events(again) == [("keep", 8, (8,)), ("keep", 5, (5,))]
    assert all(e.figures["overlap"] == 1.0 for e in again.events)


def test_a_split_keeps_the_id_in_its_larger_part_and_spawns_the_other_from_it() -> None:
    split = matched([0] * 6 + [1] * 4, [3] * 10, (3,), 7)
    assert split.ids == (3, 7) and split.parents == ((), (3,))
    assert events(split) == [("keep", 3, (3,)), ("spawn", 7, (3,))]
    assert split.events[1].figures == {"prompts": 4.0, "share_from_parent": 1.0}


def test_two_that_become_one_merge_into_the_larger() -> None:
    merged = matched([0] * 10, [1] * 6 + [2] * 4, (1, 2), 3)
    assert merged.ids == (1,) and events(merged) == [("keep", 1, (1,)), ("merge", 2, (1,))]
    assert merged.events[1].figures == {"share": 1.0}


def test_a_task_without_prompts_retires() -> None:
    gone = matched([0] * 5, [1] * 5, (1, 2), 3)
    assert gone.ids == (1,) and events(gone)[1:] == [("retire", 2, ())]
    assert gone.events[1].figures == {"prompts": 0.0}


def test_a_task_that_is_scattered_retires_rather_than_merges() -> None:
    """No community took 40 % of it, and none is mostly it."""
    new = [0] * 20 + [1] * 20 + [2] * 20
    old = ([1] * 17 + [9] * 3) + ([2] * 17 + [9] * 3) + ([3] * 17 + [9] * 3)
    scattered = matched(new, old, (1, 2, 3, 9), 10)
    assert scattered.ids == (1, 2, 3) and events(scattered)[3:] == [("retire", 9, ())]


def test_a_community_of_new_prompts_is_spawned_from_nothing() -> None:
    fresh = matched([0] * 5 + [1] * 5, [4] * 5 + [NONE] * 5, (4,), 6)
    assert fresh.ids == (4, 6) and fresh.parents == ((), ())


def test_a_small_overlap_is_a_child_and_not_the_task_itself() -> None:
    """A fifth of the old task's prompts among many new ones: it descends from the task, which goes on elsewhere."""
    child = matched([0] * 8 + [1] * 12, [4] * 8 + [4] * 2 + [NONE] * 10, (4,), 6)
    assert child.ids == (4, 6) and child.parents == ((), (4,))


def test_the_greatest_overlap_is_matched_first() -> None:
    """Community 0 shares most with task 1, but community 1 more so; community 0 takes its second best."""
    new = [0] * 10 + [1] * 10
    old = [1] * 5 + [2] * 5 + [1] * 10
    assert matched(new, old, (1, 2), 3).ids == (2, 1)


def test_a_spawn_descends_from_the_task_that_most_of_it_came_from() -> None:
    new = [0] * 10 + [1] * 10 + [2] * 5
    old = [1] * 10 + [2] * 10 + [1] + [2] * 3 + [NONE]
    spawned = matched(new, old, (1, 2), 3)
    assert spawned.ids == (1, 2, 3) and spawned.parents[2] == (2,)
    assert spawned.events[2].figures == {"prompts": 5.0, "share_from_parent": 0.6}


def test_ids_that_are_not_the_champions_mean_none() -> None:
    assert matched([0] * 4, [77] * 4, (1,), 2).ids == (2,)


def test_without_prompts_every_task_retires() -> None:
    assert events(matched([], [], (1, 2), 3)) == [("retire", 1, ()), ("retire", 2, ())]


@given(st.data())
def test_every_community_has_one_id_and_every_old_task_one_outcome(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 60))
    raw = data.draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    communities = np.unique(raw, return_inverse=True)[1]
    old_ids = tuple(data.draw(st.lists(st.integers(0, 30), unique=True, max_size=8)))
    old = data.draw(st.lists(st.sampled_from((*old_ids, NONE)), min_size=n, max_size=n))
    found = match(communities, np.array(old), old_ids, 31)
    assert len(set(found.ids)) == len(found.ids) == len(found.parents) == communities.max() + 1
    assert all(i in old_ids or i >= 31 for i in found.ids)
    outcomes = [e.task for e in found.events if e.kind != "spawn"]
    assert sorted(outcomes) == sorted(old_ids)
    spawned = [e for e in found.events if e.kind == "spawn"]
    assert [e.task for e in spawned] == list(range(31, 31 + len(spawned)))
    assert all(set(e.parents) <= set(old_ids) for e in spawned)
    assert all(e.parents[0] in found.ids for e in found.events if e.kind == "merge")


def test_no_id_is_ever_used_twice_over_generations() -> None:
    """Where ``next_id`` is carried on, as the champion's snapshot does."""
    rng = np.random.default_rng(0)
    ids: tuple[int, ...] = ()
    old, next_id, ever = np.full(200, NONE), 0, set[int]()
    for _ in range(20):
        moved = rng.random(200) < 0.4
        communities = np.unique(np.where(moved, rng.integers(0, 6, 200), old % 6), return_inverse=True)[1]
        found = match(communities, old, ids, next_id)
        new = set(found.ids) - set(ids)
        assert not new & ever and all(i >= next_id for i in new)
        ever |= new
        next_id, ids, old = max((next_id, *(i + 1 for i in found.ids))), found.ids, np.array(found.ids)[communities]
    assert len(ever) > 6
