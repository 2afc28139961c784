"""`refresh`: read all that is known, discover the tasks anew, train, try the challenger, and promote or reject it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from agent.encoding.encoder import Encoder
from agent.errors import SnapshotCorrupt
from agent.estimate import Estimator
from agent.evaluation.challenger import Challenger, train_challenger
from agent.snapshot import Snapshot
from jobs.meter import Meter
from jobs.refresh.gather import Gathered, gather
from jobs.settings import JobSettings
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a refresh did.

    Parameters
    ----------
    version
        Of the snapshot that it published.
    promoted
        Whether that one is the champion now.
    reason
        Why, or why not.
    report
        As kept with the snapshot: the gate's figures, counts, tasks and their agreement with true labels, wall time,
        peak memory.
    """

    version: int
    promoted: bool
    reason: str
    report: Mapping[str, Any]


def refresh(
    database: Database,
    settings: JobSettings,
    *,
    encoder: Encoder,
    seed: int | None = None,
    progress: Progress | None = None,
) -> RefreshResult:
    """Train a challenger on everything up to the head of the feedback log, and publish it.

    Parameters
    ----------
    encoder
        Only prompts that this encoder encoded are read.
    seed
        Of everything random; the settings' where None.
    progress
        Told (stage, share done); what it raises ends the refresh before anything is published.

    Raises
    ------
    StoreUnavailable, InvalidInput
        Where the store cannot be read or holds nothing to learn from.
    """
    tell: Progress = progress or (lambda stage, share: None)
    seed = settings.seed if seed is None else seed
    snapshots = SnapshotStore(database)
    writer = GroupCommitter(database)
    try:
        with Meter() as meter:
            tell("reading", 0.0)
            champion = _champion(snapshots)
            known = gather(
                database,
                FeedbackLog(database, writer),
                CachedEncoder(encoder, settings.cache),
                champion=champion,
            )
            challenger = train_challenger(
                known.data,
                champion,
                encoder=encoder.fingerprint,
                seed=seed,
                progress=lambda stage, share: tell(stage, 0.05 + 0.9 * share),
            )
        verdict = challenger.verdict
        report = _report(challenger, known, champion) | {
            "wall_s": meter.wall_s,
            "peak_rss_mb": meter.peak_rss_mb,
            "seed": seed,
        }
        tell("publishing", 0.97)
        published = snapshots.publish(
            challenger.snapshot,
            status="champion" if verdict.promote else "rejected",
            report=report,
            created_by="refresh",
        )
    finally:
        writer.close()
    tell("done", 1.0)
    return RefreshResult(published.version, verdict.promote, verdict.reason, report)


def _champion(snapshots: SnapshotStore) -> Snapshot | None:
    """The champion, or None where there is none that can be read: a refresh is the way out of that."""
    version = snapshots.champion_version()
    try:
        return None if version is None else snapshots.load(version)
    except SnapshotCorrupt:
        return None


def _report(challenger: Challenger, known: Gathered, champion: Snapshot | None) -> dict[str, Any]:
    verdict, snapshot = challenger.verdict, challenger.snapshot
    return {
        "promoted": verdict.promote,
        "reason": verdict.reason,
        "gate": asdict(verdict),
        "champion": champion.version if champion else None,
        "position": known.data.position,
        "counts": known.counts,
        "models": len(snapshot.models),
        "tasks": len(snapshot.tasks),
        "heads": len(snapshot.heads),
        "labels": agreement(known, snapshot),
    }


def agreement(known: Gathered, challenger: Snapshot) -> dict[str, float] | None:
    """How far the discovered tasks agree with the true labels of the training prompts that have any; None without."""
    rows = [i for i, name in enumerate(known.data.training.ids) if name in known.labels]
    truth = [known.labels[known.data.training.ids[i]] for i in rows]
    if len(set(truth)) < 2:
        return None
    estimates = Estimator(challenger).estimate_batch(
        known.data.training.embeddings[rows], known.data.training.features[rows]
    )
    found = estimates.task_probs.argmax(axis=1)
    names = [f"{label.source}\0{label.task or ''}" for label in truth]
    return {
        "prompts": len(rows),
        "true": len(set(names)),
        "found": len(np.unique(found)),
        "nmi": float(normalized_mutual_info_score(names, found)),
    }
