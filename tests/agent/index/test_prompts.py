"""Memory of single prompts: exact neighbours, scores that average and can be taken back, a reservoir of every task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from agent.index.hnsw import build_index, nearest
from agent.index.prompts import PromptIndex
from agent.types import Vector

MODELS = ("a", "b")


def unit(n: int, d: int = 8, seed: int = 0) -> Vector:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def empty(capacity: int = 10, d: int = 8) -> PromptIndex:
    return PromptIndex((), np.zeros((0, d), np.float32), np.zeros((0, len(MODELS))), (), capacity)


def scores(memory: PromptIndex, embedding: np.ndarray) -> dict[str, dict[str, float]]:
    """What is remembered, by prompt."""
    slots, similarity = memory.search(embedding, len(memory))
    return {e.prompt_id: dict(e.scores) for e in memory.evidence(slots, similarity, MODELS)}


# --- the index


def test_the_nearest_rows_are_those_of_brute_force_nearest_first() -> None:
    rows, queries = unit(500), unit(20, seed=1)
    labels, similarity = nearest(build_index(rows), queries, 10)
    exact = queries @ rows.T
    assert labels.tolist() == np.argsort(-exact, axis=1)[:, :10].tolist()
    assert np.allclose(similarity, np.take_along_axis(exact, labels, axis=1), atol=1e-5)


def test_fewer_rows_than_asked_for_are_all_given() -> None:
    labels, similarity = nearest(build_index(unit(3)), unit(2), 10)
    assert labels.shape == similarity.shape == (2, 3)


def test_an_empty_index_has_no_neighbours() -> None:
    labels, similarity = nearest(build_index(np.zeros((0, 8), np.float32)), unit(4), 5)
    assert labels.shape == similarity.shape == (4, 0)


def test_equal_rows_give_equal_indices() -> None:
    found = [nearest(build_index(unit(2000, 16)), unit(50, 16, 1), 20)[0] for _ in range(2)]
    assert (found[0] == found[1]).all()


# --- memory


def test_a_snapshots_memory_is_searched_by_meaning() -> None:
    rows = unit(5)
    memory = PromptIndex(tuple("pqrst"), rows, np.array([[0.1, np.nan]] * 4 + [[0.5, 0.7]]), [0] * 5, 10)
    slots, similarity = memory.search(rows[4], 2)
    evidence = memory.evidence(slots, similarity, MODELS)
    assert evidence[0].prompt_id == "t" and evidence[0].scores == {"a": 0.5, "b": 0.7}
    assert evidence[0].similarity == pytest.approx(1.0, abs=1e-5) and evidence[1].scores == {"a": 0.1}
    assert len(memory) == 5


def test_an_empty_memory_has_no_evidence_and_learns() -> None:
    memory, (row,) = empty(), unit(1)
    assert memory.evidence(*memory.search(row, 5), MODELS) == ()
    memory.learn_one("p", row, 0, 1, 0.25)
    assert scores(memory, row) == {"p": {"b": 0.25}} and len(memory) == 1


def test_several_scores_of_a_pair_are_averaged_with_the_snapshots() -> None:
    (row,) = unit(1)
    memory = PromptIndex(("p",), row[None], np.array([[0.2, np.nan]]), (0,), 10)
    memory.learn_one("p", row, 0, 0, 0.8)
    memory.learn_one("p", row, 0, 0, 0.8)
    assert scores(memory, row)["p"]["a"] == pytest.approx(0.6)


def test_weights_weigh() -> None:
    memory, (row,) = empty(), unit(1)
    memory.learn_one("p", row, 0, 0, 1.0, weight=3.0)
    memory.learn_one("p", row, 0, 0, 0.0, weight=1.0)
    assert scores(memory, row)["p"]["a"] == pytest.approx(0.75)


def test_a_score_that_is_taken_back_leaves_no_trace() -> None:
    memory, (row,) = empty(), unit(1)
    memory.learn_one("p", row, 0, 0, 0.3)
    memory.learn_one("p", row, 0, 0, 0.9)
    memory.learn_one("p", row, 0, 0, 0.9, weight=-1.0)
    assert scores(memory, row)["p"]["a"] == pytest.approx(0.3)
    memory.learn_one("p", row, 0, 0, 0.3, weight=-1.0)
    assert scores(memory, row) == {"p": {}}


def test_taking_back_what_is_not_remembered_changes_nothing() -> None:
    """A revision may come long after its first word was forgotten, or never reached the snapshot's memory."""
    memory, (row,) = empty(), unit(1)
    memory.learn_one("p", row, 0, 0, 0.9, weight=-1.0)
    memory.learn_one("p", row, 0, 0, 0.2)
    assert scores(memory, row) == {"p": {"a": 0.2}}
    memory.learn_one("p", row, 0, 0, 0.4)
    assert scores(memory, row)["p"]["a"] == pytest.approx(0.3)


def test_a_known_prompt_takes_no_room() -> None:
    rows, memory = unit(2), empty(capacity=2)
    for _ in range(5):
        memory.learn_one("p0", rows[0], 0, 0, 0.5)
    memory.learn_one("p1", rows[1], 0, 1, 0.5)
    assert set(scores(memory, rows[0])) == {"p0", "p1"}


# --- what a full memory forgets


def flooded(prompts: Iterable[tuple[str, int]], capacity: int, memory: PromptIndex | None = None) -> PromptIndex:
    """A memory that was told one score of each (prompt, task), in order."""
    memory = memory or empty(capacity)
    for i, (prompt, task) in enumerate(prompts):
        memory.learn_one(prompt, unit(1, seed=i)[0], task, 0, 0.5)
    return memory


def stream(n: int, seed: int = 0, rates: Sequence[float] = (0.9, 0.08, 0.02)) -> list[tuple[str, int]]:
    """``n`` prompts, each named by the task that it is drawn from."""
    tasks = np.random.default_rng(seed).choice(len(rates), n, p=rates)
    return [(f"{task}-{i}", int(task)) for i, task in enumerate(tasks)]


def kept(memory: PromptIndex, task: int) -> int:
    return sum(prompt.startswith(f"{task}-") for prompt in memory.ids)


def test_memory_never_outgrows_its_capacity_and_stays_full() -> None:
    memory = empty(capacity=20)
    for i, (prompt, task) in enumerate(stream(200)):
        memory.learn_one(prompt, unit(1, seed=i)[0], task, 0, 0.5)
        assert len(memory) == len(memory.ids) == min(i + 1, 20)


def test_a_flood_of_one_task_pushes_out_none_of_a_rare_one() -> None:
    rare = [(f"1-{i}", 1) for i in range(10)]
    memory = flooded([*rare, *((f"0-{i}", 0) for i in range(500))], 20)
    assert {prompt for prompt, _ in rare} <= set(memory.ids)


def test_tasks_with_enough_prompts_end_with_equal_shares_and_a_rare_one_whole() -> None:
    memory = flooded([*stream(600, rates=(0.9, 0.1)), *((f"2-{i}", 2) for i in range(4))], 40)
    assert [kept(memory, task) for task in range(3)] == [18, 18, 4]


def test_a_new_task_takes_its_share_of_a_memory_full_of_another() -> None:
    memory = flooded(((f"0-{i}", 0) for i in range(30)), 10)
    memory = flooded(((f"1-{i}", 1) for i in range(30)), 10, memory)
    assert kept(memory, 0) == kept(memory, 1) == 5


def test_the_snapshots_prompts_count_in_their_tasks_share() -> None:
    memory = PromptIndex(("0-a", "0-b", "0-c", "1-a"), unit(4), np.full((4, 2), 0.5), (0, 0, 0, 1), capacity=4)
    memory = flooded([("1-b", 1)], 4, memory)
    assert kept(memory, 0) == kept(memory, 1) == 2 and {"1-a", "1-b"} <= set(memory.ids)


def test_a_snapshots_prompts_are_of_the_sample_as_if_they_were_learned() -> None:
    prompts = stream(100)
    ids, tasks = zip(*prompts[:30])
    restored = flooded(prompts[30:], 30, PromptIndex(ids, unit(30), np.full((30, 2), 0.5), tasks, capacity=30))
    assert set(restored.ids) == set(flooded(prompts, 30).ids)


def test_tasks_that_differ_by_one_prompt_take_no_room_from_one_another() -> None:
    memory = flooded([("0-0", 0), ("0-1", 0), ("1-0", 1)], 3)
    memory = flooded(((f"1-{i}", 1) for i in range(1, 20)), 3, memory)
    assert {"0-0", "0-1"} <= set(memory.ids)


def test_what_a_task_keeps_is_a_uniform_sample_of_its_prompts_early_or_late() -> None:
    """Task 0 grows to the capacity and must shrink as task 1 comes: 100 streams keep of each tenth as many."""
    tenths = np.zeros(10)
    for run in range(100):
        memory = flooded(((f"0-{run}.{i}", 0) for i in range(50)), 20)
        memory = flooded(((f"{i % 2}-{run}.{i}", i % 2) for i in range(50, 150)), 20, memory)
        order = [f"0-{run}.{i}" for i in [*range(50), *range(50, 150, 2)]]
        tenths += np.bincount([order.index(p) // 10 for p in memory.ids if p.startswith("0-")], minlength=10)
    assert tenths.sum() == 1000
    assert ((tenths - 100) ** 2 / 100).sum() < 27.9  # chi-square of 9 degrees: 0.1 % lie above


def test_a_prompt_that_is_scored_often_is_no_likelier_to_be_kept() -> None:
    prompts = [(f"0-{i}", 0) for i in range(60)]
    once, often = flooded(prompts, 10), flooded([p for p in prompts for _ in range(5)], 10)
    assert set(once.ids) == set(often.ids)


def test_what_makes_room_is_found_no_more_and_what_comes_is_found_at_its_place() -> None:
    rows, memory = unit(60), empty(capacity=10)
    for i, row in enumerate(rows):
        memory.learn_one(f"0-{i}", row, 0, i % 2, i / 60)
    for i, row in enumerate(rows):
        (slot,), (similarity,) = memory.search(row, 1)
        assert (memory.ids[slot] == f"0-{i}") == (f"0-{i}" in memory.ids) == (similarity > 0.9999)
    known = scores(memory, rows[0])
    assert all(known[f"0-{i}"] == {MODELS[i % 2]: i / 60} for i in range(60) if f"0-{i}" in memory.ids)


def test_a_prompt_that_comes_back_after_it_was_forgotten_starts_anew() -> None:
    memory = flooded(((f"0-{i}", 0) for i in range(10)), 10)
    forgotten = next(p for p in (f"0-{i}" for i in range(10)) if p not in flooded([("1-0", 1)], 10, memory).ids)
    for prompt, task in [("1-1", 1), (forgotten, 2)]:  # now of a rare task, which has room
        memory.learn_one(prompt, unit(1, seed=50)[0], task, 0, 1.0)
    assert scores(memory, unit(1)[0])[forgotten] == {"a": 1.0}


def test_a_prompt_that_is_taken_back_where_it_was_not_remembered_takes_no_room() -> None:
    memory = flooded([("0-0", 0), ("0-1", 0)], 2)
    memory.learn_one("1-0", unit(1)[0], 1, 0, 0.5, weight=-1.0)
    assert set(memory.ids) == {"0-0", "0-1"}


def test_equal_logs_give_equal_memories_and_other_logs_others() -> None:
    first, second = flooded(stream(300), 30), flooded(stream(300), 30)
    assert first.digest() == second.digest() and first.ids == second.ids
    assert (first.search(unit(1)[0], 30)[0] == second.search(unit(1)[0], 30)[0]).all()
    second.learn_one(second.ids[7], unit(1)[0], 0, 1, 0.5)
    assert first.digest() != second.digest()


def test_a_snapshot_larger_than_the_capacity_is_kept_whole() -> None:
    rows = unit(5)
    memory = PromptIndex(tuple("pqrst"), rows, np.full((5, 2), 0.5), [0] * 5, capacity=2)
    assert len(memory) == 5
    memory.learn_one("new", unit(1, seed=9)[0], 1, 0, 1.0)
    known = set(scores(memory, rows[0]))
    assert len(memory) == len(known) == 5 and "new" in known
