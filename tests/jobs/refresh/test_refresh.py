"""A refresh discovers, trains, and promotes only what the gate finds better."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.feedback.ledger import Ledger
from agent.types import Candidate, Decision, ModelCard, TaskAssignment, Turn
from jobs.data.importer import load, store_file
from jobs.refresh.run import refresh
from jobs.refresh.seed import ensure_champion
from jobs.settings import JobSettings
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.encoders.cache import CachedEncoder
from store.feedback import FeedbackEvent, FeedbackLog
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import BEST, MODELS, WordEncoder, records, write


def cards() -> list[ModelCard]:
    return [ModelCard(name, priors={"math": 0.5}) for name in (*MODELS, "newcomer")]


def a_world(database: Database, settings: JobSettings, folder: Path, n: int = 360) -> None:
    """A pool, its seed champion, and imported evaluations."""
    for card in cards():
        ModelPool(database).add(PoolModel(card, Provider("openai", "http://127.0.0.1:9/v1")))
    ensure_champion(database, CachedEncoder(WordEncoder(), settings.cache), cards())
    path = write(folder / "made" / "train.jsonl.gz", records(n))
    assert store_file(load(path), database, WordEncoder()).rows == n


def test_evaluations_make_a_better_champion_and_the_same_again_is_rejected(
    database: Database, settings: JobSettings, tmp_path: Path
) -> None:
    a_world(database, settings, tmp_path)
    stages: list[str] = []
    first = refresh(database, settings, encoder=WordEncoder(), progress=lambda stage, share: stages.append(stage))
    assert first.promoted, first.reason
    snapshots = SnapshotStore(database)
    assert snapshots.champion_version() == first.version == 2
    assert first.report["labels"]["nmi"] > 0.7
    assert first.report["counts"]["evaluations"] == 360
    assert first.report["wall_s"] > 0
    assert first.report["peak_rss_mb"] > 10
    assert {"reading", "gate", "publishing", "done"} <= set(stages)
    champion = snapshots.load(2)
    assert set(champion.models) == {*MODELS, "newcomer"}
    unseen = records(30, seed=9)
    encoded = WordEncoder().encode([(Turn("user", r["prompt"]),) for r in unseen])
    estimates = Estimator(champion).estimate_batch(
        np.stack([e.embedding for e in encoded]), np.stack([e.features for e in encoded])
    )
    chosen = [champion.models[j] for j in estimates.quality.argmax(axis=1)]
    assert np.mean([c == BEST[r["source"]] for c, r in zip(chosen, unseen, strict=True)]) > 0.8

    again = refresh(database, settings, encoder=WordEncoder())
    assert not again.promoted
    assert "not proven better" in again.reason
    assert snapshots.champion_version() == 2
    row = next(r for r in snapshots.list() if r.version == again.version)
    assert (row.status, row.report["reason"]) == ("rejected", again.reason)


def test_feedback_is_trained_on_and_the_position_moves(world: Database, settings: JobSettings, tmp_path: Path) -> None:
    a_world(world, settings, tmp_path, 60)
    writer = GroupCommitter(world)
    decisions, log = DecisionLog(world, writer), FeedbackLog(world, writer)
    for i, row in enumerate(records(40, seed=5)):
        encoded = WordEncoder().encode([(Turn("user", row["prompt"]),)])[0]
        candidates = tuple(Candidate(m, 0.5, 0.1, 0.0, 0.5, p) for m, p in (("chef", 0.9), ("cheap", 0.1)))
        decision = Decision("chef", candidates, TaskAssignment(0, "t", 1.0), (), 1, 0, encoded, False, "why")
        decisions.append(
            DecisionRecord(
                id=f"d{i}", created_at=datetime.now(UTC), decision=decision, encoder="words/v1", prompt=row["prompt"]
            )
        ).result()
        log.append([FeedbackEvent(f"d{i}", row["scores"]["chef"], "user")]).result()
    writer.close()
    result = refresh(world, settings, encoder=WordEncoder())
    assert result.report["position"] == 40
    assert result.report["counts"]["feedback_prompts"] == 40
    published = SnapshotStore(world).load(result.version)
    assert published.position == 40
    [user] = Ledger.from_state(published.meta["ledger"]).sources()
    assert (user.source, user.n_ratings) == ("user", 40)
    assert result.report["gate"]["feedback"]["n"] > 0


def test_what_progress_raises_ends_the_refresh_before_anything_is_published(
    world: Database, settings: JobSettings, tmp_path: Path
) -> None:
    a_world(world, settings, tmp_path, 60)

    def stop(stage: str, share: float) -> None:
        if stage == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(world, settings, encoder=WordEncoder(), progress=stop)
    assert [r.version for r in SnapshotStore(world).list()] == [1]


def test_a_champion_of_another_encoder_is_replaced_uncontested(
    world: Database, settings: JobSettings, tmp_path: Path
) -> None:
    a_world(world, settings, tmp_path, 60)
    other = WordEncoder()
    other.fingerprint = "words/v2"
    with pytest.raises(InvalidInput, match="60 evaluated prompts were encoded by another encoder"):
        refresh(world, settings, encoder=other)
    store_file(load(tmp_path / "made" / "train.jsonl.gz"), world, other)
    result = refresh(world, settings, encoder=other)
    assert result.promoted
    assert "another encoder (words/v1)" in result.reason


def test_importing_twice_changes_nothing(world: Database, tmp_path: Path) -> None:
    file = load(write(tmp_path / "made" / "train.jsonl", records(30)))
    assert (file.dataset, file.split) == ("made", "train")
    told: list[int] = []
    first = store_file(file, world, WordEncoder(), progress=told.append)
    assert (first.rows, first.new_prompts, first.scores, first.duplicates, told) == (30, 30, 120, 0, [30])
    again = store_file(file, world, WordEncoder())
    assert (again.rows, again.new_prompts, again.scores, again.duplicates) == (0, 0, 0, 30)
