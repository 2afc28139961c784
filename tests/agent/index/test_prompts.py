"""The live prompt index: exact neighbours, scores that average and are revised, a reservoir of each task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from agent.encoding.similarity import Representation
from agent.index.neighbours import NeighbourIndex, Neighbours
from agent.index.prompts import NEAR, RATINGS, PromptIndex
from agent.types import Vector

MODELS = ("a", "b")
NONE = np.zeros((0, 0), np.float32)


def plain(d: int = 8) -> Representation:
    """Of embeddings alone: similarity is exp(-distance)."""
    empty = np.zeros(0, np.float32)
    share = np.array([1.0, 0.0, 0.0], np.float32)
    return Representation(empty, NONE, empty, empty, np.ones(3, np.float32), share, np.eye(d, dtype=np.float32))


def unit(n: int, d: int = 8, seed: int = 0) -> Vector:
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def empty(capacity: int = 10, d: int = 8) -> PromptIndex:
    return PromptIndex(plain(d), (), (), np.zeros((0, 0)), capacity)


def trained(scores: Sequence[Sequence[float]]) -> PromptIndex:
    """Of a snapshot of prompts p, q, ..."""
    return PromptIndex(plain(), "pqrst"[: len(scores)], MODELS, np.array(scores), 10)


def learn(
    index: PromptIndex,
    prompt: str,
    point: Vector,
    task: int,
    model: int,
    score: float,
    *,
    rater: str = "a",
    revises: bool = False,
    weight: float = 1.0,
) -> None:
    near = index.neighbourhood(index.nearest(point, 1))
    index.learn_one(
        prompt, point, task, MODELS[model], score, weight, neighbourhood=len(index) if near is None else near,
        rating=(prompt, "user", rater), revises=revises,
    )  # fmt: skip


def scores(index: PromptIndex, point: Vector) -> dict[str, dict[str, float]]:
    """The scores held of prompts scored since the snapshot, by prompt."""
    nothing = Neighbours(np.zeros((1, 0), np.int64), np.zeros((1, 0), np.float32))
    return {e.prompt_id: dict(e.scores) for e in index.evidence(index.nearest(point, len(index)), nothing, len(index))}


# --- the index


def exact(points: Vector, queries: Vector) -> Vector:
    return np.asarray(np.exp(-np.linalg.norm(queries[:, None] - points[None], axis=2)))


def test_the_nearest_rows_are_those_of_brute_force_nearest_first() -> None:
    rows, queries = unit(500), unit(20, seed=1)
    found, right = NeighbourIndex(plain(), rows).find(queries, 10), exact(rows, queries)
    assert found.rows.tolist() == np.argsort(-right, axis=1)[:, :10].tolist()
    assert np.allclose(found.similarity, np.take_along_axis(right, found.rows, axis=1), atol=1e-5)


def test_of_many_rows_nearly_all_of_the_nearest_are_found() -> None:
    rows, queries = unit(20_000, 16), unit(50, 16, seed=1)
    found, right = NeighbourIndex(plain(16), rows).find(queries, 50), exact(rows, queries)
    known = [len({*a} & {*b}) / 50 for a, b in zip(found.rows, np.argsort(-right, axis=1)[:, :50])]
    assert np.mean(known) > 0.95


def test_rows_that_are_added_are_found_as_if_they_had_been_there() -> None:
    rows = unit(300)
    grown = NeighbourIndex(plain(), rows[:0], capacity=300)
    for row, point in enumerate(rows):
        grown.put(row, point)
    assert len(grown) == 300
    whole = NeighbourIndex(plain(), rows)
    assert grown.find(unit(20, seed=1), 5).rows.tolist() == whole.find(unit(20, seed=1), 5).rows.tolist()


def test_as_many_rows_are_found_where_all_are_equal() -> None:
    rows = np.repeat(unit(1), 3000, axis=0)
    found = NeighbourIndex(plain(), rows).find(rows[:5], 200)
    assert found.rows.shape == (5, 200) and [len({*row}) for row in found.rows.tolist()] == [200] * 5


def test_fewer_rows_than_asked_for_are_all_given() -> None:
    found = NeighbourIndex(plain(), unit(3)).find(unit(2), 10)
    assert found.rows.shape == found.similarity.shape == (2, 3)


def test_an_empty_index_has_no_neighbours() -> None:
    found = NeighbourIndex(plain(), unit(0)).find(unit(4), 5)
    assert found.rows.shape == found.similarity.shape == (4, 0)


def test_equal_rows_give_equal_indexes() -> None:
    found = [NeighbourIndex(plain(16), unit(2000, 16)).find(unit(50, 16, 1), 20).rows for _ in range(2)]
    assert (found[0] == found[1]).all()


# --- prompts and scores


def test_evidence_is_of_the_snapshots_prompts_and_of_those_scored_since_the_nearest_first() -> None:
    index, rows = trained([[0.1, np.nan]] * 4 + [[0.5, 0.7]]), unit(5)
    nearest = NeighbourIndex(plain(), rows).find(rows[4:], 5)
    learn(index, "new", rows[4] + np.float32(0.01), 0, 1, 0.25)
    evidence = index.evidence(index.nearest(rows[4], 3), nearest, 3)
    assert [e.prompt_id for e in evidence] == ["t", "new", "pqrst"[nearest.rows[0, 1]]]
    assert [e.scores for e in evidence] == [{"a": 0.5, "b": 0.7}, {"b": 0.25}, {"a": 0.1}]
    assert evidence[0].similarity == pytest.approx(1.0, abs=1e-5) and len(index) == 1


def test_an_empty_index_has_no_evidence_and_learns() -> None:
    index, (row,) = empty(), unit(1)
    assert scores(index, row) == {} and index.neighbourhood(index.nearest(row, 1)) is None
    learn(index, "p", row, 0, 1, 0.25)
    assert scores(index, row) == {"p": {"b": 0.25}} and len(index) == 1


def test_several_scores_of_a_pair_are_averaged_with_the_snapshots() -> None:
    index, (row,) = trained([[0.2, np.nan]]), unit(1)
    learn(index, "p", row, 0, 0, 0.8)
    learn(index, "p", row, 0, 0, 0.8, rater="b")
    assert scores(index, row)["p"]["a"] == pytest.approx(0.6)


def test_a_score_counts_by_its_weight() -> None:
    index, (row,) = empty(), unit(1)
    learn(index, "p", row, 0, 0, 0.2)
    learn(index, "p", row, 0, 0, 0.8, rater="b", weight=0.5)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.4)


def test_a_model_that_the_snapshot_does_not_know_is_remembered() -> None:
    index, (row,) = trained([[0.2, np.nan]]), unit(1)
    index.learn_one("p", row, 0, "new", 0.9, 1.0, neighbourhood=1, rating=("p", "user", ""))
    assert scores(index, row)["p"] == {"a": 0.2, "new": 0.9}


def test_a_revised_rating_is_replaced_as_often_as_it_is_revised() -> None:
    index, (row,) = empty(), unit(1)
    learn(index, "p", row, 0, 0, 0.3)
    learn(index, "p", row, 0, 0, 0.9, rater="b")
    for score in (0.5, 0.7):
        learn(index, "p", row, 0, 0, score, rater="b", revises=True)
        assert scores(index, row)["p"]["a"] == pytest.approx((0.3 + score) / 2)


def test_a_revision_leaves_no_trace_of_what_it_revised() -> None:
    (row,), other = unit(1), unit(1, seed=3)[0]
    found = []
    for first in (0.0, 1.0):
        index = empty()
        learn(index, "p", row, 0, 0, first)
        learn(index, "q", other, 0, 0, 0.5)
        learn(index, "p", row, 0, 0, 0.7, revises=True)
        found.append(index.digest())
    assert found[0] == found[1]


def test_a_revised_score_of_the_snapshot_is_replaced() -> None:
    index, (row,) = trained([[0.2, np.nan]]), unit(1)
    for score in (0.8, 0.6):
        learn(index, "p", row, 0, 0, score, revises=True)
        assert scores(index, row)["p"]["a"] == pytest.approx(score)


def test_a_revision_of_a_rating_that_is_not_held_takes_back_no_other() -> None:
    """The prompt was replaced since, and came back; or the rating never entered the index."""
    index, (row,) = empty(), unit(1)
    learn(index, "p", row, 0, 0, 0.2)
    learn(index, "p", row, 0, 0, 0.4, rater="b", revises=True)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.3)
    learn(index, "p", row, 0, 0, 0.8, rater="b", revises=True)
    assert scores(index, row)["p"]["a"] == pytest.approx(0.5)


def test_of_a_prompt_that_is_rated_without_end_the_latest_ratings_are_held() -> None:
    index, (row,) = empty(), unit(1)
    for n in range(3 * RATINGS):
        learn(index, "p", row, 0, 0, 0.0 if n < 2 * RATINGS else 1.0, rater=f"r{n}")
    assert scores(index, row) == {"p": {"a": 1.0}}


def test_a_known_prompt_takes_no_room() -> None:
    rows, index = unit(2), empty(capacity=2)
    for _ in range(5):
        learn(index, "p0", rows[0], 0, 0, 0.5)
    learn(index, "p1", rows[1], 0, 1, 0.5)
    assert set(scores(index, rows[0])) == {"p0", "p1"}


# --- neighbourhoods


def test_a_prompt_belongs_to_the_neighbourhood_of_the_most_similar_one_if_it_is_near() -> None:
    index, distance = empty(), -np.log(NEAR)
    at = [np.array([x] + [0.0] * 7, np.float32) for x in (0.0, 0.9 * distance, 1.8 * distance, 5.0)]
    for name, point, neighbourhood in zip("abcd", at, (7, 7, 7, 9)):
        index.learn_one(name, point, 0, "m", 0.5, 1.0, neighbourhood=neighbourhood, rating=(name,))
    assert [index.neighbourhood(index.nearest(point, 1)) for point in at] == [7, 7, 7, 9]
    assert (
        index.neighbourhood(index.nearest(at[2] + np.float32(0.9 * distance) * np.eye(8, dtype=np.float32)[0], 1)) == 7
    )
    assert (
        index.neighbourhood(index.nearest(at[2] + np.float32(1.1 * distance) * np.eye(8, dtype=np.float32)[1], 1))
        is None
    )


def test_a_prompt_that_takes_the_place_of_another_takes_its_neighbourhood_away() -> None:
    index, rows = empty(capacity=2), unit(3)
    for name, row, task in zip("abc", rows, (0, 0, 1)):
        index.learn_one(name, row, task, "m", 0.5, 1.0, neighbourhood=ord(name), rating=(name,))
    left = {"a", "b"} & {*index.ids}
    assert [index.neighbourhood(index.nearest(row, 1)) for row in rows] == [
        *(ord(n) if n in left else None for n in "ab"),
        ord("c"),
    ]
    assert len(left) == 1


def test_a_neighbourhood_is_known_while_one_of_its_prompts_is_held() -> None:
    index, rows = empty(capacity=2), unit(3)
    for name, row, task in zip("ab", rows, (0, 0)):
        index.learn_one(name, row, task, "m", 0.5, 1.0, neighbourhood=ord(name), rating=(name,))
    assert [index.known_neighbourhood("new", found) for found in (ord("a"), ord("b"), ord("c"), None)] == [
        ord("a"), ord("b"), None, None,
    ]  # fmt: skip
    assert index.known_neighbourhood("a", ord("b")) == ord("a"), "a prompt that is held keeps its own"
    index.learn_one("c", rows[2], 1, "m", 0.5, 1.0, neighbourhood=ord("c"), rating=("c",))
    left = ({"a", "b"} & {*index.ids}).pop()
    gone = "b" if left == "a" else "a"
    assert index.known_neighbourhood(gone, ord(gone)) is None and index.known_neighbourhood("new", ord(left)) == ord(
        left
    )


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
        nothing = Neighbours(np.zeros((1, 0), np.int64), np.zeros((1, 0), np.float32))
        (nearest,) = index.evidence(index.nearest(row, 1), nothing, 1)
        assert (nearest.prompt_id == f"0-{i}") == (f"0-{i}" in index.ids) == (nearest.similarity > 0.9999)
    known = scores(index, rows[0])
    assert all(known[f"0-{i}"] == {MODELS[i % 2]: i / 60} for i in range(60) if f"0-{i}" in index.ids)


def test_a_prompt_that_comes_back_after_it_was_replaced_starts_anew() -> None:
    index = flooded(((f"0-{i}", 0) for i in range(10)), 10)
    replaced = next(p for p in (f"0-{i}" for i in range(10)) if p not in flooded([("1-0", 1)], 10, index).ids)
    for prompt, task in [("1-1", 1), (replaced, 2)]:  # now of a rare task, which has room
        learn(index, prompt, unit(1, seed=50)[0], task, 0, 1.0)
    assert scores(index, unit(1)[0])[replaced] == {"a": 1.0}
    learn(
        index, replaced, unit(1, seed=50)[0], 2, 0, 0.8, rater="b", revises=True
    )  # of a score that was replaced with it
    assert scores(index, unit(1)[0])[replaced]["a"] == pytest.approx(0.9)


def test_equal_logs_give_equal_indexes_and_other_logs_others() -> None:
    first, second = flooded(stream(300), 30), flooded(stream(300), 30)
    assert first.digest() == second.digest() and first.ids == second.ids
    assert scores(first, unit(1)[0]) == scores(second, unit(1)[0])
    learn(second, second.ids[7], unit(1)[0], 0, 1, 0.5)
    assert first.digest() != second.digest()
