"""A store of commit 4c91bbd, whose champion this Thalweg does not read: a refresh replaces it and learns from all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.estimate import Estimator
from agent.router import Router
from agent.types import ModelCard, RouteRequest, Turn
from jobs.data.files import load, store_file
from jobs.refresh.run import refresh
from jobs.settings import JobSettings
from store.database import Database
from store.feedback import FeedbackLog
from store.lineage import TaskLineage
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import BEST, MODELS, WordEncoder, records, write
from tests.store.build import restore_old_store

pytestmark = pytest.mark.usefixtures("few_seed_prompts")


class OtherEncoder(WordEncoder):
    """The same, as if it were another encoder."""

    fingerprint = "words/v2"


@pytest.fixture
def old(settings: JobSettings, home: Path) -> Iterator[Database]:
    """The old store as that of the home."""
    restore_old_store(home / "thalweg.db")
    database = Database.open(settings.database_url)
    yield database
    database.close()


def test_a_refresh_replaces_the_champion_and_learns_from_everything(old: Database, settings: JobSettings) -> None:
    lineage, snapshots = TaskLineage(old), SnapshotStore(old)
    former = {task.id for task in lineage.list()}
    result = refresh(old, settings, encoder=WordEncoder())
    assert result.promoted and "there is no champion that can be read" in result.reason
    assert (result.report["counts"]["evaluations"], result.report["counts"]["feedback_prompts"]) == (60, 36)
    assert result.report["position"] == 68
    champion = snapshots.champion()
    assert champion is not None and champion.readable and champion.version == result.version == 4

    snapshot = snapshots.load(4)
    assert former and min(task.id for task in snapshot.tasks) > max(former), "no id of an old task"
    rows = {task.id: task for task in lineage.list(include_retired=True)}
    assert all(rows[task].retired_in == 4 for task in former)
    assert all(rows[task.id].retired_in is None and rows[task.id].spawned_in == 4 for task in snapshot.tasks)
    fresh = records(60, seed=11)
    encoded = WordEncoder().encode([(Turn("user", row["prompt"]),) for row in fresh])
    quality = (
        Estimator(snapshot)
        .estimate_batch(np.stack([e.embedding for e in encoded]), np.stack([e.features for e in encoded]))
        .quality
    )
    chosen = [snapshot.models[i] for i in quality.argmax(axis=1)]
    assert np.mean([model == BEST[row["source"]] for model, row in zip(chosen, fresh)]) > 0.9

    router = Router(snapshot, [ModelCard(name) for name in MODELS])
    assert router.route(encoded[0], RouteRequest(()), np.random.default_rng(0)).snapshot == 4
    again = refresh(old, settings, encoder=WordEncoder())
    assert not again.promoted and again.report["champion"] == 4


def test_a_replica_learns_from_the_old_log(old: Database, settings: JobSettings) -> None:
    writer = GroupCommitter(old)
    rows = FeedbackLog(old, writer).tail(0)
    writer.close()
    refresh(old, settings, encoder=WordEncoder())
    router = Router(replace(SnapshotStore(old).load(4), position=0), [ModelCard(name) for name in MODELS])
    unlearned = router.digest()
    for row in rows:
        router.learn_one(row)
    assert router.position == 68 and router.digest() != unlearned
    assert {report.rater: report.n_ratings for report in router.raters()} == {"ann": 16, "bob": 12}


def test_after_a_change_of_encoder_no_task_id_is_used_again(
    old: Database, settings: JobSettings, tmp_path: Path
) -> None:
    lineage, snapshots = TaskLineage(old), SnapshotStore(old)
    used = refresh(old, settings, encoder=WordEncoder())
    before = {task.id for task in lineage.list(include_retired=True)}
    file = load(write(tmp_path / "made" / "train.jsonl", records(60)))
    store_file(file, old, OtherEncoder())
    result = refresh(old, settings, encoder=OtherEncoder())
    assert result.promoted and "another encoder" in result.reason and result.version > used.version
    after = {task.id for task in snapshots.load(result.version).tasks}
    assert after and min(after) > max(before)
    assert all(task.retired_in is not None for task in lineage.list(include_retired=True) if task.id in before)
