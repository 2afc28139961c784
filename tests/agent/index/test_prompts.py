"""The live prompt index: exact neighbours, scores that average and are revised, a reservoir of each task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from agent.index.neighbours import build_index, nearest
from agent.index.prompts import PromptIndex
from agent.types import Vector

MODELS = ("a", "b")


def unit(n: int, d: int = 8, seed: int = 0) -> Vector:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def empty(capacity: int = 10, d: int = 8) -> PromptIndex:
    return PromptIndex((), np.zeros((0, d), np.float32), np.zeros((0, len(MODELS))), (), capacity)


def learn(
    index: PromptIndex,
    prompt: str,
    embedding: Vector,
    task: int,
    model: int,
    score: float,
    *,
    rater: str = "a",
    revises: float | None = None,
) -> None:
    index.learn_one(prompt, embedding, task, model, score, rating=(prompt, "user", rater), revises=revises)


def scores(index: PromptIndex, embedding: np.ndarray) -> dict[str, dict[str, float]]:
    """The scores held, by prompt."""
    slots, similarity = index.search(embedding, len(index))
    return {e.prompt_id: dict(e.scores) for e in index.evidence(slots, similarity, MODELS)}


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


def test_equal_rows_give_equal_indexes() -> None:
    found = [nearest(build_index(unit(2000, 16)), unit(50, 16, 1), 20)[0] for _ in range(2)]
    assert (found[0] == found[1]).all()


# --- prompts and scores


def test_a_snapshots_prompts_are_searched_by_embedding() -> None:
    rows = unit(5)
    index = PromptIndex(tuple("pqrst"), rows, np.array([[0.1, np.nan]] * 4 + [[0.5, 0.7]]), [0] * 5, 10)
    slots, similarity = index.search(rows[4], 2)
    evidence = index.evidence(slots, similarity, MODELS)
    assert evidence[0].prompt_id == "t" and evidence[0].scores == {"a": 0.5, "b": 0.7}
    assert evidence[0].similarity == pytest.approx(1.0, abs=1e-5) and evidence[1].scores == {"a": 0.1}
    assert len(index) == 5


def test_an_empty_index_has_no_evidence_and_learns() -> None:
    index, (row,) = empty(), unit(1)
    assert index.evidence(*index.search(row, 5), MODELS) == ()
    learn(index, "p", row, 0, 1, 0.25)
    assert scores(index, row) == {"p": {"b": 0.25}} and len(index) == 1


def test_several_scores_of_a_pair_are_averaged_with_the_snapshots() -> None:
    (row,) = unit(1)
    index = PromptIndex(("p",), row[None], np.array([[0.2, np.nan]]), (0,), 10)
    learn(index, "p", row, 0, 0, 0.8)
    learn(index, "p", row, 0, 0, 0.8)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.6)


def test_a_revised_rating_is_replaced_as_often_as_it_is_revised() -> None:
    index, (row,) = empty(), unit(1)
    learn(index, "p", row, 0, 0, 0.3)
    learn(index, "p", row, 0, 0, 0.9, rater="b")
    for revises, score in [(0.9, 0.5), (0.5, 0.7)]:
        learn(index, "p", row, 0, 0, score, rater="b", revises=revises)
        assert scores(index, row)["p"]["a"] == pytest.approx((0.3 + score) / 2)


def test_a_revised_score_of_the_snapshot_is_replaced() -> None:
    (row,) = unit(1)
    index = PromptIndex(("p",), row[None], np.array([[0.2, np.nan]]), (0,), 10)
    learn(index, "p", row, 0, 0, 0.8, revises=0.2)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.8)
    learn(index, "p", row, 0, 0, 0.6, revises=0.8)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.6)


def test_a_revision_of_a_rating_that_is_not_held_takes_back_no_other() -> None:
    """The prompt was replaced since, and came back; or the rating never entered the index."""
    index, (row,) = empty(), unit(1)
    learn(index, "p", row, 0, 0, 0.2)
    learn(index, "p", row, 0, 0, 0.4, rater="b", revises=0.9)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.3)
    learn(index, "p", row, 0, 0, 0.8, rater="b", revises=0.4)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.5)


def test_a_known_prompt_takes_no_room() -> None:
    rows, index = unit(2), empty(capacity=2)
    for _ in range(5):
        learn(index, "p0", rows[0], 0, 0, 0.5)
    learn(index, "p1", rows[1], 0, 1, 0.5)
    assert set(scores(index, rows[0])) == {"p0", "p1"}


# --- a full index


def flooded(prompts: Iterable[tuple[str, int]], capacity: int, index: PromptIndex | None = None) -> PromptIndex:
    """An index that learned one score of each (prompt, task), in order."""
    index = index or empty(capacity)
    for i, (prompt, task) in enumerate(prompts):
        learn(index, prompt, unit(1, seed=i)[0], task, 0, 0.5)
    return index


def stream(n: int, seed: int = 0, rates: Sequence[float] = (0.9, 0.08, 0.02)) -> list[tuple[str, int]]:
    """``n`` prompts, each named by the task that it is drawn from."""
    tasks = np.random.default_rng(seed).choice(len(rates), n, p=rates)
    return [(f"{task}-{i}", int(task)) for i, task in enumerate(tasks)]


def held(index: PromptIndex, task: int) -> int:
    return sum(prompt.startswith(f"{task}-") for prompt in index.ids)


def test_the_index_grows_to_its_capacity_and_stays_full() -> None:
    index = empty(capacity=20)
    for i, (prompt, task) in enumerate(stream(200)):
        learn(index, prompt, unit(1, seed=i)[0], task, 0, 0.5)
        assert len(index) == len(index.ids) == min(i + 1, 20)


def test_many_prompts_of_one_task_replace_none_of_a_rare_one() -> None:
    rare = [(f"1-{i}", 1) for i in range(10)]
    index = flooded([*rare, *((f"0-{i}", 0) for i in range(500))], 20)
    assert {prompt for prompt, _ in rare} <= set(index.ids)


def test_tasks_with_enough_prompts_end_with_equal_shares_and_a_rare_one_whole() -> None:
    index = flooded([*stream(600, rates=(0.9, 0.1)), *((f"2-{i}", 2) for i in range(4))], 40)
    assert [held(index, task) for task in range(3)] == [18, 18, 4]


def test_a_new_task_takes_its_share_of_an_index_full_of_another() -> None:
    index = flooded(((f"0-{i}", 0) for i in range(30)), 10)
    index = flooded(((f"1-{i}", 1) for i in range(30)), 10, index)
    assert held(index, 0) == held(index, 1) == 5


def test_the_snapshots_prompts_count_in_their_tasks_share() -> None:
    index = PromptIndex(("0-a", "0-b", "0-c", "1-a"), unit(4), np.full((4, 2), 0.5), (0, 0, 0, 1), capacity=4)
    index = flooded([("1-b", 1)], 4, index)
    assert held(index, 0) == held(index, 1) == 2 and {"1-a", "1-b"} <= set(index.ids)


def test_a_snapshots_prompts_are_of_the_sample_as_if_they_were_learned() -> None:
    prompts = stream(100)
    ids, tasks = zip(*prompts[:30])
    restored = flooded(prompts[30:], 30, PromptIndex(ids, unit(30), np.full((30, 2), 0.5), tasks, capacity=30))
    assert set(restored.ids) == set(flooded(prompts, 30).ids)


def test_tasks_that_differ_by_one_prompt_take_no_room_from_one_another() -> None:
    index = flooded([("0-0", 0), ("0-1", 0), ("1-0", 1)], 3)
    index = flooded(((f"1-{i}", 1) for i in range(1, 20)), 3, index)
    assert {"0-0", "0-1"} <= set(index.ids)


def test_what_a_task_keeps_is_a_uniform_sample_of_its_prompts_early_or_late() -> None:
    """Task 0 grows to the capacity and must shrink as task 1 comes: 100 streams keep of each tenth as many."""
    tenths = np.zeros(10)
    for run in range(100):
        index = flooded(((f"0-{run}.{i}", 0) for i in range(50)), 20)
        index = flooded(((f"{i % 2}-{run}.{i}", i % 2) for i in range(50, 150)), 20, index)
        order = [f"0-{run}.{i}" for i in [*range(50), *range(50, 150, 2)]]
        tenths += np.bincount([order.index(p) // 10 for p in index.ids if p.startswith("0-")], minlength=10)
    assert tenths.sum() == 1000
    assert ((tenths - 100) ** 2 / 100).sum() < 27.9  # chi-square of 9 degrees: 0.1 % lie above


def test_a_prompt_that_is_scored_often_is_no_likelier_to_be_held() -> None:
    prompts = [(f"0-{i}", 0) for i in range(60)]
    once, often = flooded(prompts, 10), flooded([p for p in prompts for _ in range(5)], 10)
    assert set(once.ids) == set(often.ids)


def test_a_replaced_prompt_is_found_no_more_and_the_new_one_is() -> None:
    rows, index = unit(60), empty(capacity=10)
    for i, row in enumerate(rows):
        learn(index, f"0-{i}", row, 0, i % 2, i / 60)
    for i, row in enumerate(rows):
        (slot,), (similarity,) = index.search(row, 1)
        assert (index.ids[slot] == f"0-{i}") == (f"0-{i}" in index.ids) == (similarity > 0.9999)
    known = scores(index, rows[0])
    assert all(known[f"0-{i}"] == {MODELS[i % 2]: i / 60} for i in range(60) if f"0-{i}" in index.ids)


def test_a_prompt_that_comes_back_after_it_was_replaced_starts_anew() -> None:
    index = flooded(((f"0-{i}", 0) for i in range(10)), 10)
    replaced = next(p for p in (f"0-{i}" for i in range(10)) if p not in flooded([("1-0", 1)], 10, index).ids)
    for prompt, task in [("1-1", 1), (replaced, 2)]:  # now of a rare task, which has room
        learn(index, prompt, unit(1, seed=50)[0], task, 0, 1.0)
    assert scores(index, unit(1)[0])[replaced] == {"a": 1.0}
    learn(
        index, replaced, unit(1, seed=50)[0], 2, 0, 0.8, rater="b", revises=0.5
    )  # of a score that was replaced with it
    assert scores(index, unit(1)[0])[replaced]["a"] == pytest.approx(0.9)


def test_equal_logs_give_equal_indexes_and_other_logs_others() -> None:
    first, second = flooded(stream(300), 30), flooded(stream(300), 30)
    assert first.digest() == second.digest() and first.ids == second.ids
    assert (first.search(unit(1)[0], 30)[0] == second.search(unit(1)[0], 30)[0]).all()
    learn(second, second.ids[7], unit(1)[0], 0, 1, 0.5)
    assert first.digest() != second.digest()


def test_a_snapshot_larger_than_the_capacity_is_kept_whole() -> None:
    rows = unit(5)
    index = PromptIndex(tuple("pqrst"), rows, np.full((5, 2), 0.5), [0] * 5, capacity=2)
    assert len(index) == 5
    learn(index, "new", unit(1, seed=9)[0], 1, 0, 1.0)
    known = set(scores(index, rows[0]))
    assert len(index) == len(known) == 5 and "new" in known
