"""A snapshot's estimates: equal alone or in a batch, before and after the store; and out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.errors import SnapshotCorrupt
from agent.estimate import Estimator
from agent.fit import FitConfig, fit
from agent.snapshot import Snapshot
from agent.types import UNKNOWN_TASK, Encoded
from store.database import Database
from store.snapshots import SnapshotStore
from tests.agent.world import DIMENSION, world

PARTS = ("quality", "stage1", "stage2", "neighbours", "task_probabilities", "known", "cost")


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Of a world in which some scores are missing."""
    examples = world()
    scores = examples.scores.copy()
    scores[::7, 2] = np.nan
    return fit(replace(examples, scores=scores), encoder="test")


def test_a_prompt_alone_is_estimated_as_in_a_batch(snapshot: Snapshot) -> None:
    estimator, fresh = Estimator(snapshot), world(30, seed=1)
    together = estimator.estimate_batch(fresh.embeddings, fresh.features)
    for i in range(len(fresh)):
        alone = estimator.estimate(Encoded(fresh.embeddings[i], fresh.features[i], 9))
        for part in PARTS:
            assert np.allclose(getattr(alone, part)[0], getattr(together, part)[i], rtol=1e-3, atol=1e-4), part


def test_a_large_batch_is_estimated_as_a_small_one(snapshot: Snapshot) -> None:
    estimator, fresh = Estimator(snapshot), world(30, seed=1)
    once = estimator.estimate_batch(fresh.embeddings, fresh.features)
    often = estimator.estimate_batch(np.tile(fresh.embeddings, (40, 1)), np.tile(fresh.features, (40, 1)))
    for part in PARTS:
        assert np.allclose(getattr(often, part)[-30:], getattr(once, part), rtol=1e-3, atol=1e-4), part


def test_the_store_changes_nothing(snapshot: Snapshot, tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/store.db")
    store = SnapshotStore(database)
    published = store.publish(snapshot, status="champion", report={}, created_by="tests")
    loaded = Estimator(store.load(published.version))
    database.close()
    fresh = world(30, seed=1)
    before = Estimator(snapshot).estimate_batch(fresh.embeddings, fresh.features)
    after = loaded.estimate_batch(fresh.embeddings, fresh.features)
    for part in PARTS:
        assert np.array_equal(getattr(before, part), getattr(after, part)), part


def test_a_prompt_far_from_every_task_is_unknown(snapshot: Snapshot) -> None:
    estimator, fresh = Estimator(snapshot), world(20, seed=1)
    estimates = estimator.estimate_batch(fresh.embeddings, fresh.features)
    assert estimates.known.mean() > 0.9
    assert estimator.assign_task(estimates, int(estimates.known.argmax())).id in {t.id for t in snapshot.tasks}
    against = -np.sum(snapshot.tensors["centroids"], axis=0, dtype=np.float32)
    far = Encoded(np.asarray(against / np.linalg.norm(against), np.float32), fresh.features[0], 9)
    assert estimator.assign_task(estimator.estimate(far)).id == UNKNOWN_TASK
    assert far.embedding.shape == (DIMENSION,)


def test_a_corrupt_tensor_is_named(snapshot: Snapshot) -> None:
    broken = {**snapshot.tensors, "stack": np.full(3, np.nan)}
    with pytest.raises(SnapshotCorrupt, match="stack"):
        Estimator(replace(snapshot, tensors=broken))


def test_a_training_prompt_is_predicted_without_its_own_scores() -> None:
    """Random scores show in the estimates of their own prompts, but not out of fold."""
    examples = world(300)
    chance = np.random.default_rng(5).integers(0, 2, examples.scores.shape).astype(float)
    estimator = Estimator(fit(replace(examples, scores=chance), encoder="test"))
    known = estimator.estimate_batch(examples.embeddings, examples.features).quality
    oof = estimator.predict_out_of_fold(examples.ids, examples.embeddings, examples.features)

    def agreement(quality: np.ndarray) -> float:
        return float(np.corrcoef(quality.ravel(), chance.ravel())[0, 1])

    assert agreement(known) > agreement(oof) + 0.1
    assert abs(agreement(oof)) < 0.1
    others = ("other",) * len(examples)
    assert np.array_equal(estimator.predict_out_of_fold(others, examples.embeddings, examples.features), known)


def test_training_prompts_beyond_the_index_are_predicted_out_of_fold_too() -> None:
    examples = world(120)
    kept, whole = (fit(examples, encoder="test", config=FitConfig(index_capacity=n)) for n in (30, 120))
    assert len(kept.meta["indexed_prompts"]) == 30 and kept.n_scored == whole.n_scored == 120
    prompts = (examples.ids, examples.embeddings, examples.features)
    assert np.array_equal(Estimator(kept).predict_out_of_fold(*prompts), Estimator(whole).predict_out_of_fold(*prompts))
