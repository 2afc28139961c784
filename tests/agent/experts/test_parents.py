"""Task heads start from those of the champion's tasks that the task descends from, where new prompts say that it pays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from agent.estimate import Estimator
from agent.examples import Scores, join
from agent.experts.general_heads import Trunk
from agent.experts.parents import inherit
from agent.experts.task_heads import Start, fit_task_heads, head_inputs
from agent.fit import fit
from agent.snapshot import GENERAL, Head, LineageEvent, Snapshot
from agent.tasks.lineage import Lineage
from agent.types import Array
from tests.agent import clusters
from tests.agent.experts.slopes import slopes, snapshot

N, Q, MODELS = 160, 9, 2
BOTH = np.ones((1, MODELS), bool)
LABELS = np.zeros(N, np.int64)


def made(seed: int = 0) -> tuple[Trunk, Scores, Array]:
    """A task whose residuals follow a head with much noise, the trunk's features, and that head (1, q, m)."""
    rng = np.random.default_rng(seed)
    basis, singular, rotation = np.linalg.svd(rng.standard_normal((N, Q - 1)), full_matrices=False)
    trunk = Trunk(np.zeros((0, 0), np.float32), rotation.T, singular**2, basis.astype(np.float32))
    head = 0.1 * rng.standard_normal((1, Q, MODELS))
    value = head_inputs(trunk) @ head[0] + 0.5 * rng.standard_normal((N, MODELS))
    return trunk, Scores(value, np.ones_like(value)), head


def error(trunk: Trunk, weights: Array, head: Array) -> float:
    return float(((head_inputs(trunk) @ (weights - head)[0]) ** 2).mean())


def test_a_good_start_is_kept_where_new_prompts_prove_it() -> None:
    trunk, scores, head = made()
    new = np.arange(N) % 2 == 0
    plain = fit_task_heads(trunk, scores, np.zeros_like(scores.value), LABELS, BOTH)
    helped = fit_task_heads(trunk, scores, np.zeros_like(scores.value), LABELS, BOTH, Start(head, new))
    assert helped.inherited.all() and helped.alpha[0] > 0.0
    assert error(trunk, helped.weights, head) < 0.8 * error(trunk, plain.weights, head)
    assert helped.oof[~new] / helped.alpha[0] == pytest.approx(plain.oof[~new] / plain.alpha[0])


def test_a_start_that_knows_the_scores_is_not_believed_by_them() -> None:
    """The parent has learned every score by heart; only prompts that it never saw could speak for it."""
    trunk, scores, head = made(1)
    by_heart = np.linalg.lstsq(head_inputs(trunk), scores.value, rcond=None)[0][None].astype(np.float64)
    plain = fit_task_heads(trunk, scores, np.zeros_like(scores.value), LABELS, BOTH)
    found = fit_task_heads(trunk, scores, np.zeros_like(scores.value), LABELS, BOTH, Start(by_heart, np.zeros(N, bool)))
    assert not found.inherited.any()
    assert np.array_equal(found.weights, plain.weights) and np.array_equal(found.oof, plain.oof)


def test_a_bad_start_is_not_kept() -> None:
    trunk, scores, head = made(2)
    plain = fit_task_heads(trunk, scores, np.zeros_like(scores.value), LABELS, BOTH)
    found = fit_task_heads(
        trunk, scores, np.zeros_like(scores.value), LABELS, BOTH, Start(-3.0 * head, np.ones(N, bool))
    )
    assert not found.inherited.any() and np.array_equal(found.weights, plain.weights)


@cache
def champion() -> Snapshot:
    """Of made-up kinds, with a head of one model for each of its first two tasks."""
    base, rng = clusters.snapshot(), np.random.default_rng(3)
    first, second = (t.id for t in base.tasks[:2])
    q = base.tensors["task_head_basis"].shape[1]
    heads = [Head(t, "v/alpha", {"weight": rng.standard_normal((q,))}) for t in (first, second)]
    return replace(base, heads=(*(h for h in base.heads if h.task == GENERAL), *heads))


def test_a_head_is_carried_over_as_a_function_and_merged_ones_by_their_evidence() -> None:
    before, estimator = champion(), Estimator(champion())
    prompts = [clusters.encoded(kind, i) for kind in clusters.KINDS for i in range(30)]
    embeddings, features = np.stack([p.embedding for p in prompts]), np.stack([p.features for p in prompts])
    theirs = estimator.head_inputs(embeddings, features)
    mixed = theirs @ np.random.default_rng(4).standard_normal((theirs.shape[1], theirs.shape[1]))
    first, second = (t.id for t in before.tasks[:2])
    labels = np.arange(len(prompts)) % 3
    origins = ((first,), (first, second), (before.tasks[2].id,))
    models, new = ("v/new", "v/alpha"), np.ones(len(prompts), bool)
    start = inherit(before, lambda rows: theirs[rows], origins, labels, mixed, models, new)
    weight = {h.task: h.tensors["weight"] for h in before.heads if h.task != GENERAL}
    n_scores = before.tensors["task_n_scores"][:2, before.models.index("v/alpha")]
    one, two = theirs @ weight[first], theirs @ weight[second]
    averaged = (n_scores[0] * one + n_scores[1] * two) / n_scores.sum()
    for task, expected in ((0, one), (1, averaged)):
        rows = labels == task
        assert mixed[rows] @ start.weights[task, :, 1] == pytest.approx(expected[rows], abs=1e-3)
    assert not start.weights[:, :, 0].any() and start.given.tolist() == [True, True, False]
    off = before.with_head(first, "v/alpha", off=True)
    assert not inherit(off, lambda rows: theirs[rows], origins, labels, mixed, models, new).weights[0].any()


def test_origins_of_kept_split_and_merged_tasks() -> None:
    events = (
        LineageEvent("keep", 4, (4,), {}), LineageEvent("spawn", 9, (4,), {}), LineageEvent("spawn", 10, (), {}),
        LineageEvent("merge", 5, (4,), {}), LineageEvent("retire", 6, (), {}),
    )  # fmt: skip
    assert Lineage((4, 9, 10), ((), (4,), ()), events).origins == ((4, 5), (4,), ())


def test_a_refresh_says_what_became_of_every_tasks_heads() -> None:
    before = snapshot()
    after = fit(join([slopes(600)[0], slopes(300, seed=7)[0]]), encoder="made", champion=before)
    rows = {row["task"]: row for row in after.meta["experts"]["tasks"]}
    stored = {head.task for head in after.heads} - {GENERAL}
    assert stored and {t.id for t in after.tasks} <= set(rows)
    for task in after.tasks:
        row = rows[task.id]
        assert (row["alpha"] > 0.0) == (task.id in stored) and row["heads"] == sum(
            h.task == task.id for h in after.heads
        )
        assert ("not stored" in row["why"]) == (task.id not in stored)
        assert row["inherited"] == ("started from the heads of task" in row["why"])
    assert any(row["inherited"] for row in rows.values())
    gone = [event for event in after.lineage if event.kind in ("merge", "retire")]
    assert all("readable in snapshot 3" in rows[event.task]["why"] for event in gone)
