"""What has come in since the last refresh, as the store knows it: what `agent.evaluation.refresh_rule` judges by."""

from __future__ import annotations

from agent.evaluation.refresh_rule import RECENT, DueConfig, Standing, why_due
from store.database import Database
from store.drifts import DriftStore
from store.feedback import FeedbackLog
from store.signals import scored_models, scored_prompts
from store.snapshots import SnapshotStore


def why_due_now(database: Database, snapshots: SnapshotStore, log: FeedbackLog, read: int, *, most: int) -> str | None:
    """`why_due` of what came after position ``read`` of the log; ``most`` as `DueConfig` has it."""
    return why_due(read_standing(database, snapshots, log, read), DueConfig(most=most))


def read_standing(database: Database, snapshots: SnapshotStore, log: FeedbackLog, read: int) -> Standing:
    """What came after position ``read`` of the log, or after what the champion was trained on where that is later.

    Only prompts that were scored count as strays, each once: a refresh learns from no others, so those would call
    one refresh after another.
    """
    champion = snapshots.champion()
    if champion is None:
        return Standing(scores=0, feedback=log.count_since(read))
    read = max(read, champion.position)
    prompts = scored_prompts(database, snapshot=champion.version, after=read, limit=RECENT)
    drifts = DriftStore(database).latest(after=read)
    return Standing(
        scores=champion.scores,
        feedback=log.count_since(read),
        decisions=prompts.count,
        strays=prompts.strays,
        drifted={m: scored_models(database, after=found.drift.since - 1).get(m, 0) for m, found in drifts.items()},
        newcomers={m: n for m, n in scored_models(database, after=read).items() if m not in champion.models},
    )
