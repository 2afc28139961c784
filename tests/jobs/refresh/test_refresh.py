"""A refresh discovers tasks, trains, and promotes what the gate finds better; a champion set meanwhile stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.feedback.ledger import Ledger
from agent.types import ModelCard, Turn
from jobs.data.files import load, store_file
from jobs.refresh.run import refresh
from jobs.refresh.seed import ensure_champion
from jobs.settings import JobSettings
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.feedback import FeedbackEvent
from store.lineage import TaskLineage
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore
from store.trials import TrialStore
from tests.jobs.made import BEST, MODELS, WordEncoder, age_snapshots, give_feedback, record_decision, records, write

pytestmark = pytest.mark.usefixtures("few_seed_prompts")


@pytest.fixture
def import_records(tmp_path: Path) -> Callable[..., None]:
    """Imports ``n`` made-up evaluations, encoded by ``encoder``."""

    def run(database: Database, n: int, encoder: WordEncoder | None = None) -> None:
        file = load(write(tmp_path / "made" / "train.jsonl.gz", records(n)))
        store_file(file, database, encoder or WordEncoder())

    return run


@pytest.fixture
def seeded(settings: JobSettings, import_records: Callable[..., None]) -> Callable[..., None]:
    """Gives a database a pool, its seed champion, and ``n`` evaluations."""

    def run(database: Database, n: int = 60) -> None:
        cards = [ModelCard(name, priors={"math": 0.5}) for name in (*MODELS, "newcomer")]
        for card in cards:
            ModelPool(database).add(PoolModel(card, Provider("openai", "http://127.0.0.1:9/v1")))
        ensure_champion(database, CachedEncoder(WordEncoder(), settings.cache), cards)
        import_records(database, n)

    return run


def test_evaluations_make_a_better_champion_and_the_same_again_is_rejected(
    database: Database, settings: JobSettings, seeded: Callable[..., None]
) -> None:
    seeded(database, 360)
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

    held = TrialStore(database).running()
    assert held is not None and (held.kind, held.champion, held.challenger) == ("hold-back", 2, 1)
    assert first.reason.startswith("promoted: better with 95% confidence"), "and is held back all the same"
    assert first.reason.endswith("; kept on hold-back against snapshot 1")
    snapshots.end_trial("sure enough")
    again = refresh(database, settings, encoder=WordEncoder())
    assert not again.promoted
    assert "neither proven better nor worse" in again.reason
    assert snapshots.champion_version() == 2
    row = next(r for r in snapshots.list() if r.version == again.version)
    assert (row.status, row.report["reason"]) == ("trial", again.reason)
    running = TrialStore(database).running()
    assert running is not None and (running.champion, running.challenger) == (2, again.version)
    third = refresh(database, settings, encoder=WordEncoder())
    assert not third.promoted and third.reason.startswith(f"rejected, not tried: snapshot {again.version} is on trial")
    assert TrialStore(database).running() == running


def test_feedback_is_trained_on_and_the_position_moves(
    home_database: Database, settings: JobSettings, seeded: Callable[..., None]
) -> None:
    seeded(home_database)
    for i, row in enumerate(records(40, seed=5)):
        record_decision(home_database, f"d{i}", {"chef": 0.9, "cheap": 0.1}, row["prompt"])
        give_feedback(home_database, FeedbackEvent(f"d{i}", row["scores"]["chef"], "user"))
    result = refresh(home_database, settings, encoder=WordEncoder())
    assert result.report["position"] == 40
    assert result.report["counts"]["feedback_prompts"] == 40
    published = SnapshotStore(home_database).load(result.version)
    assert published.position == 40
    [user] = Ledger.from_state(published.meta["ledger"]).sources()
    assert (user.source, user.n_ratings) == ("user", 40)
    assert result.report["gate"]["feedback"]["n"] > 0


def test_what_progress_raises_ends_the_refresh_before_anything_is_published(
    home_database: Database, settings: JobSettings, seeded: Callable[..., None]
) -> None:
    seeded(home_database)

    def stop(stage: str, share: float) -> None:
        if stage == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(home_database, settings, encoder=WordEncoder(), progress=stop)
    assert [r.version for r in SnapshotStore(home_database).list()] == [1]


def test_what_was_rolled_back_is_not_followed_by_another_of_the_same_evidence(
    home_database: Database, settings: JobSettings
) -> None:
    cards = [ModelCard(name, priors={"math": 0.5}) for name in MODELS]
    for card in cards:
        ModelPool(home_database).add(PoolModel(card, Provider("openai", "http://127.0.0.1:9/v1")))
    ensure_champion(home_database, CachedEncoder(WordEncoder(), settings.cache), cards)
    for i, row in enumerate(records(80, seed=5)):
        if i in (20, 60):  # twenty scores are a handful; sixty promote what another refresh of the same scores repeats
            result = refresh(home_database, settings, encoder=WordEncoder())
            assert result.promoted == (i == 60), result.reason
        record_decision(home_database, f"d{i}", {"chef": 0.9, "cheap": 0.1}, row["prompt"])
        give_feedback(home_database, FeedbackEvent(f"d{i}", float(i % 2), "user"))
    assert result.reason.startswith("promoted although not proven better, because it was trained on 60 scored prompts")
    assert result.reason.endswith("; kept on hold-back against snapshot 1")
    snapshots = SnapshotStore(home_database)
    held, tried = TrialStore(home_database).list()
    assert (held.kind, held.state, held.champion, held.challenger) == ("hold-back", "running", result.version, 1)
    assert (tried.kind, tried.state) == (
        "trial",
        "ended",
    ) and f"snapshot {result.version} was made champion" in tried.why
    assert snapshots.settle(held.id, "promoted", "worse live", {})
    again = refresh(home_database, settings, encoder=WordEncoder())
    assert not again.promoted and again.report["n_scored"] > 60 and snapshots.champion_version() == 1


def test_a_rollback_by_hand_during_a_refresh_stays(
    home_database: Database, settings: JobSettings, seeded: Callable[..., None], import_records: Callable[..., None]
) -> None:
    seeded(home_database)
    assert refresh(home_database, settings, encoder=WordEncoder()).version == 2
    import_records(home_database, 360)
    snapshots = SnapshotStore(home_database)

    def roll_back(stage: str, share: float) -> None:
        if stage == "gate":
            snapshots.rollback("worse, I think")

    result = refresh(home_database, settings, encoder=WordEncoder(), progress=roll_back)
    assert result.report["gate"]["outcome"] == "promote", "else there is nothing to hold back"
    assert snapshots.champion_version() == 1
    row = next(r for r in snapshots.list() if r.version == result.version)
    assert (row.status, result.promoted, row.report["promoted"]) == ("rejected", False, False)
    assert row.report["reason"] == result.reason
    assert result.reason.startswith("not promoted, because another snapshot was made champion during the refresh")


def test_a_refresh_under_another_encoder_replaces_the_champion_and_reuses_no_task_id(
    home_database: Database, settings: JobSettings, seeded: Callable[..., None], import_records: Callable[..., None]
) -> None:
    seeded(home_database)
    former = {task.id for task in TaskLineage(home_database).list(include_retired=True)}
    other = WordEncoder()
    other.fingerprint = "words/v2"
    with pytest.raises(InvalidInput, match="60 evaluated prompts were encoded by another encoder"):
        refresh(home_database, settings, encoder=other)
    import_records(home_database, 60, other)
    result = refresh(home_database, settings, encoder=other)
    assert result.promoted
    assert "another encoder (words/v1)" in result.reason
    champion = SnapshotStore(home_database).load(result.version)
    assert former and min(task.id for task in champion.tasks) > max(former)
    lineage = TaskLineage(home_database)
    assert {task.id for task in lineage.list()} == {task.id for task in champion.tasks}
    assert all(task.retired_in == result.version for task in lineage.list(include_retired=True) if task.id in former)


def test_a_champion_that_cannot_be_read_is_replaced_and_no_task_id_is_reused(
    home_database: Database, settings: JobSettings, seeded: Callable[..., None]
) -> None:
    seeded(home_database)
    former = {task.id for task in TaskLineage(home_database).list(include_retired=True)}
    age_snapshots(home_database)
    result = refresh(home_database, settings, encoder=WordEncoder())
    assert result.promoted and SnapshotStore(home_database).champion_version() == result.version
    assert "there is no champion that can be read" in result.reason
    tasks = SnapshotStore(home_database).load(result.version).tasks
    assert former and min(task.id for task in tasks) > max(former)
