"""Training: what it finds in data, and data of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.estimate import Estimates, Estimator
from agent.examples import Examples
from agent.fit import FitConfig, fit
from agent.snapshot import GENERAL, Snapshot
from agent.tasks.discover import DiscoveryConfig, sampled
from tests.agent.world import KINDS, MODELS, best, world


def trained(examples: Examples, **how: object) -> Snapshot:
    return fit(examples, encoder="test", **how)  # type: ignore[arg-type]


def estimated(snapshot: Snapshot, examples: Examples) -> Estimates:
    """Estimates that were checked to be finite and in range."""
    estimates = Estimator(snapshot).estimate_batch(examples.embeddings, examples.features)
    assert estimates.quality.shape == (len(examples), len(snapshot.models))
    assert np.isfinite(estimates.quality).all()
    assert estimates.quality.min() >= 0.0 and estimates.quality.max() <= 1.0
    assert np.allclose(estimates.task_probabilities.sum(axis=1), 1.0)
    return estimates


def same(left: Snapshot, right: Snapshot) -> bool:
    heads = zip(left.heads, right.heads, strict=True)
    return (
        left.meta == right.meta
        and all(np.array_equal(left.tensors[k], right.tensors[k], equal_nan=True) for k in left.tensors)
        and all(np.array_equal(a.tensors[k], b.tensors[k]) for a, b in heads for k in a.tensors)
    )


def test_new_prompts_go_to_the_model_of_their_kind() -> None:
    fresh = world(seed=1)
    estimates = estimated(trained(world()), fresh)
    for part in (estimates.quality, estimates.stage1, estimates.stage2, estimates.neighbours):
        assert (part.argmax(axis=1) == best(fresh)).mean() > 0.9
    assert estimates.cost is not None and fresh.costs is not None
    assert np.allclose(np.log(estimates.cost / fresh.costs), 0.0, atol=0.6)


def test_tasks_are_the_kinds_and_carry_names_candidates_and_heads() -> None:
    snapshot = trained(world())
    assert len(snapshot.tasks) >= len(KINDS)
    candidates = {t.id: set(t.candidates) for t in snapshot.tasks}
    heads = {task: {head.model for head in snapshot.heads if head.task == task} for task in (GENERAL, *candidates)}
    assert heads[GENERAL] == set(MODELS)
    assert all(heads[task] in (set(), models) for task, models in candidates.items())
    assert any(heads[task] for task in candidates)
    assert all(any(w in t.name for kind in KINDS.values() for w in kind) for t in snapshot.tasks)


def test_heads_are_left_out_on_demand() -> None:
    without_task_heads = trained(world(), config=FitConfig(task_heads=False))
    assert {head.task for head in without_task_heads.heads} == {GENERAL} and without_task_heads.tensors["stack"][
        1
    ] > 0.0
    without = trained(world(), config=FitConfig(general_heads=False))
    assert {head.task for head in without.heads} == {GENERAL}
    assert without.tensors["stack"][1] == 0.0 and without.tensors["stack"].sum() == pytest.approx(1.0)
    estimated(without, world(seed=1))


def test_equal_seeds_give_equal_snapshots() -> None:
    assert same(trained(world(), seed=3), trained(world(), seed=3))


def test_tasks_keep_their_ids_over_a_retraining() -> None:
    champion = trained(world())
    successor = trained(world(200), champion=champion)
    kept = {t.id for t in successor.tasks} & {t.id for t in champion.tasks}
    assert len(kept) >= len(KINDS) - 1
    assert successor.meta["next_task"] >= champion.meta["next_task"]


def test_a_task_id_is_never_assigned_twice() -> None:
    """Neither where the champion cannot be read, nor where it reads other features."""
    first = trained(world(), next_task=70)
    assert [t.id for t in first.tasks] == list(range(70, 70 + len(first.tasks)))
    assert first.meta["next_task"] == 70 + len(first.tasks)
    wider = world()
    wider = replace(wider, features=np.pad(wider.features, ((0, 0), (0, 3))))
    second = trained(wider, champion=first)
    assert min(t.id for t in second.tasks) == first.meta["next_task"]


@pytest.mark.parametrize("n", [2, 3, 5, 12, 50])
def test_few_prompts_are_enough_to_start(n: int) -> None:
    estimated(trained(world(n)), world(20, seed=1))


def test_one_prompt_or_no_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="two prompts"):
        trained(world(1))
    with pytest.raises(InvalidInput, match="one model"):
        trained(world(5, models=(), scores=np.zeros((5, 0)), costs=None))


def test_one_model_is_always_chosen() -> None:
    one = world(40, models=("only",), scores=world(40).scores[:, :1], costs=None)
    estimated(trained(one), world(10, seed=1))


def test_missing_scores_cost_little() -> None:
    examples = world(400)
    scores = examples.scores.copy()
    scores[np.random.default_rng(5).random(scores.shape) < 0.7] = np.nan
    fresh = world(seed=1)
    quality = estimated(trained(replace(examples, scores=scores)), fresh).quality
    assert (quality.argmax(axis=1) == best(fresh)).mean() > 0.8


def test_one_score_a_prompt_is_enough() -> None:
    examples = world(400)
    chosen = np.random.default_rng(5).integers(0, len(MODELS), (400, 1)) == np.arange(len(MODELS))
    fresh = world(seed=1)
    quality = estimated(trained(replace(examples, scores=np.where(chosen, examples.scores, np.nan))), fresh).quality
    assert (quality.argmax(axis=1) == best(fresh)).mean() > 0.8


def test_published_figures_rank_models_before_any_score() -> None:
    examples = world()
    prior = np.where(np.arange(len(MODELS)) == best(examples)[:, None], 0.8, 0.4)
    snapshot = trained(replace(examples, scores=np.full(examples.scores.shape, np.nan), prior=prior))
    fresh = world(seed=1)
    assert (estimated(snapshot, fresh).quality.argmax(axis=1) == best(fresh)).mean() > 0.9
    assert np.diag(snapshot.tensors["overall_covariance"]).min() > 0.09**2


def test_a_model_of_which_nothing_is_known_does_not_lead() -> None:
    examples = world()
    scores = examples.scores.copy()
    scores[:, 0] = np.nan
    snapshot = trained(replace(examples, scores=scores))
    assert (estimated(snapshot, world(seed=1)).quality.argmax(axis=1) != 0).all()
    variance = np.diag(snapshot.tensors["overall_covariance"])
    assert (variance[0] > 4 * variance[1:]).all()


def test_task_heads_count_nothing_where_scores_are_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (300, len(MODELS))).astype(float)
    snapshot = trained(world(300, scores=noise))
    assert {head.task for head in snapshot.heads} == {GENERAL}
    estimates = estimated(snapshot, world(seed=1))
    assert np.abs(estimates.quality - estimates.quality.mean(axis=0)).max() < 0.1


def test_a_score_without_weight_is_no_score() -> None:
    examples, rng = world(120), np.random.default_rng(4)
    hidden = rng.random(examples.scores.shape) < 0.3
    wrong = np.where(hidden, 1.0 - examples.scores, examples.scores)
    fresh = world(20, seed=1)
    unweighted = estimated(trained(replace(examples, scores=wrong, weights=1.0 - hidden.astype(np.float64))), fresh)
    unobserved = estimated(trained(replace(examples, scores=np.where(hidden, np.nan, examples.scores))), fresh)
    for part in ("quality", "stage1", "stage2", "neighbours"):
        assert np.allclose(getattr(unweighted, part), getattr(unobserved, part), atol=1e-6), part


def test_scores_of_little_weight_count_little() -> None:
    examples = world(300)
    wrong = np.random.default_rng(4).random(300) < 0.6
    scores = np.where(wrong[:, None], 1.0 - examples.scores, examples.scores)
    weights = np.where(wrong[:, None], 0.1, 1.0) * np.ones_like(scores)
    fresh = world(seed=1)
    right = [
        (
            estimated(trained(replace(examples, scores=scores, weights=w)), fresh).quality.argmax(axis=1) == best(fresh)
        ).mean()
        for w in (weights, None)
    ]
    assert right[0] > 0.9 > 0.7 > right[1]


@pytest.mark.parametrize("seed", [3, 6])
def test_a_model_that_was_mostly_tried_on_easy_prompts_is_not_overrated(seed: int) -> None:
    """One score a prompt, of a model that was chosen for its kind more often than not; one kind is easy for all models."""
    rng, examples = np.random.default_rng(seed), world(600, seed=seed)
    kind = best(examples)
    chance = np.where(kind[:, None] == 0, 0.8, 0.3) + np.where(np.arange(5) == 1, 0.15, 0.0)
    chosen = np.where(kind == 0, 0, 1 + rng.integers(0, 4, 600))
    asked = np.where(rng.random(600) < 0.6, chosen, rng.integers(0, 5, 600))
    scores = np.where(asked[:, None] == np.arange(5), rng.random(chance.shape) < chance, np.nan)
    quality = estimated(trained(replace(examples, scores=scores)), world(seed=1)).quality.mean(axis=0)
    seeming = np.nanmean(scores, axis=0)
    assert seeming[0] > seeming[1] + 0.05
    assert quality[0] - quality[1] < 0.5 * (seeming[0] - seeming[1])


def test_repeated_prompts_and_prompts_without_text_do_no_harm() -> None:
    few = world(12)
    rows = np.repeat(np.arange(12), 6)
    repeated = Examples(
        ids=tuple(f"r{i}" for i in range(len(rows))),
        embeddings=few.embeddings[rows],
        features=np.zeros_like(few.features[rows]),
        scores=few.scores[rows],
        models=few.models,
        texts=("",) * len(rows),
    )
    estimated(trained(repeated), world(20, seed=1))


def test_tasks_found_on_a_sample_serve_all_prompts() -> None:
    """Of 400 prompts 120 are in the graph: the others get the task of their like, and are estimated as well."""
    examples, fresh = world(400), world(seed=1)
    config = FitConfig(discovery=DiscoveryConfig(sample=120))
    snapshot = trained(examples, config=config)
    kinds = best(examples)
    labels = snapshot.tensors["indexed_task"]
    for task in range(len(snapshot.tasks)):
        members = kinds[labels == task]
        assert (members == np.bincount(members).argmax()).mean() > 0.9
    assert sum(task.size for task in snapshot.tasks) == 400
    assert (estimated(snapshot, fresh).quality.argmax(axis=1) == best(fresh)).mean() > 0.9


def test_the_sample_hardly_changes_when_prompts_are_added() -> None:
    ids = tuple(f"p{i}" for i in range(300))
    few = {ids[i] for i in sampled(ids[:280], 100)}
    assert len(few) == 100 and len(few & {ids[i] for i in sampled(ids, 100)}) > 85
    assert sampled(ids, 300).tolist() == list(range(300))
