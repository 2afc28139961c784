"""A refresh: read the store, train a challenger, let the gate compare it with the champion, and publish the result.

The challenger is trained on the seed prompts' priors, all evaluations and all feedback up to the head of the log; tasks
are discovered anew. By the gate's outcome it becomes the champion, with a hold-back against the one before, goes on trial,
or is kept as rejected, see `jobs.refresh.placement`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from agent.encoding.encoder import Encoder
from agent.errors import ChampionChanged, InvalidInput, SnapshotCorrupt
from agent.estimate import Estimator
from agent.evaluation.challenger import Progress, RefreshData, comparable, train_challenger
from agent.examples import Examples, join
from agent.feedback.state import evaluated_scores, feedback_state, since_last_drift
from agent.snapshot import Snapshot
from jobs.context import peak_rss_mb
from jobs.refresh.placement import placement, tried_beside
from jobs.refresh.seed import seed_examples
from jobs.settings import JobSettings
from store.columns import Clock, utc_now
from store.database import Database
from store.drifts import MAX_DRIFTS, DriftStore
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationStore, Label
from store.examples import feedback_examples
from store.feedback import FeedbackLog
from store.lineage import TaskLineage
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """The outcome of a refresh.

    Parameters
    ----------
    version
        Of the published snapshot.
    promoted
        Whether it was made the champion.
    reason
        Why, or why not.
    report
        Kept with the snapshot: the gate's figures, counts, tasks and their agreement with true labels, wall time, peak
        memory.
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
    clock: Clock = utc_now,
) -> RefreshResult:
    """Train a challenger on everything up to the head of the feedback log, and publish it.

    Parameters
    ----------
    encoder
        Only prompts that this encoder encoded are read.
    seed
        Of everything random; the settings' where None.
    progress
        Called with (stage, share done); what it raises ends the refresh before anything is published.
    clock
        Tells when the snapshot is published and its trial starts.

    Raises
    ------
    StoreUnavailable, InvalidInput
        Where the store cannot be read or holds nothing to learn from.
    """
    report: Progress = progress or (lambda stage, share: None)
    seed = settings.seed if seed is None else seed
    snapshots = SnapshotStore(database, clock)
    started = time.perf_counter()
    report("reading", 0.0)
    serving = snapshots.champion_version()
    champion = _load(snapshots, serving)
    former = [row for row in snapshots.list() if row.status == "retired" and row.parent == serving]
    rolled_back = [row.report.get("n_scored", 0) for row in former]  # in whose place the champion was put back
    tried = tried_beside(database, serving)
    log, cached = FeedbackLog(database), CachedEncoder(encoder, settings.cache)
    data, labels, counts = read_refresh_data(database, log, cached, champion=champion)
    challenger = train_challenger(
        data,
        champion,
        encoder=encoder.fingerprint,
        seed=seed,
        next_task=TaskLineage(database).next_id(),
        outgrow=max(*rolled_back, tried.most_scored, 0),
        progress=lambda stage, share: report(stage, 0.05 + 0.9 * share),
    )
    verdict, snapshot = challenger.verdict, challenger.snapshot
    place = placement(verdict, snapshot.n_scored, comparable(champion, encoder.fingerprint), tried, settings)
    kept: dict[str, Any] = {
        "promoted": place.status == "champion",
        "reason": place.reason,
        "gate": asdict(verdict),
        "champion": champion.version if champion else None,
        "position": data.position,
        "counts": counts,
        "models": len(snapshot.models),
        "n_scored": snapshot.n_scored,
        "tasks": len(snapshot.tasks),
        "heads": len(snapshot.heads),
        "experts": snapshot.meta["experts"],
        "labels": agreement(data.training, labels, snapshot),
        "wall_s": time.perf_counter() - started,
        "peak_rss_mb": peak_rss_mb(),
        "seed": seed,
    }
    report("publishing", 0.97)
    publish = partial(snapshots.publish, snapshot, created_by="refresh")
    try:
        published = publish(
            status=place.status, report=kept, expected_champion=serving, plan=place.plan, supersedes=tried.running
        )
    except ChampionChanged as error:
        meanwhile = "promoted, because another snapshot was made champion"
        if place.status == "trial":
            meanwhile = "tried, because another snapshot was made champion or went on trial"
        reason = f"not {meanwhile} during the refresh: {error.message}"
        kept |= {"promoted": False, "reason": reason}
        published = publish(status="rejected", report=kept)
    report("done", 1.0)
    return RefreshResult(published.version, kept["promoted"], kept["reason"], kept)


def _load(snapshots: SnapshotStore, version: int | None) -> Snapshot | None:
    """The champion; None where there is none that can be read, which a refresh then replaces."""
    try:
        return None if version is None else snapshots.load(version)
    except SnapshotCorrupt:
        return None


def read_refresh_data(
    database: Database, log: FeedbackLog, encoder: CachedEncoder, *, champion: Snapshot | None
) -> tuple[RefreshData, dict[str, Label], dict[str, int]]:
    """Read the store.

    Parameters
    ----------
    champion
        The snapshot that serves, or None; feedback after its position was not in its training.

    Returns
    -------
    tuple
        What training and the gate read; prompt id -> true labels of its evaluation, to compare the discovered tasks with;
        numbers of prompts, scores, evaluations and feedback rows, for the report.

    Raises
    ------
    InvalidInput
        Where there are evaluations, but none that this encoder encoded: training without them would forget them.
    """
    position = log.head()
    store = EvaluationStore(database)
    changes = DriftStore(database).list(kinds=["quality"], limit=MAX_DRIFTS)
    drifts = [found.drift for found in changes]
    evaluations, labels = store.examples(encoder.fingerprint, drifts=changes)
    unread = sum(count.prompts for count in store.counts()) - len(evaluations)
    if unread > 0 and not len(evaluations):
        raise InvalidInput(
            f"all {unread:,} evaluated prompts were encoded by another encoder than {encoder.fingerprint!r}; "
            "import their files again, or set THALWEG_ENCODER back",
            param="THALWEG_ENCODER",
        )
    rows = log.between(champion.position if champion else 0, position)
    state = feedback_state(champion, rows, evaluated_scores(evaluations))
    seeds = seed_examples(encoder, [model.card for model in ModelPool(database).list()])
    feedback = feedback_examples(database, encoder.fingerprint, position, state.ledger, drifts)
    training = join([seeds, evaluations, feedback])
    observations = [o for o in rows if o.other is None]  # a comparison is no score
    data = RefreshData(
        training=training,
        evaluations=evaluations,
        observations=since_last_drift(observations, drifts),
        position=position,
        carried=state.state(),
    )
    counts = {
        "prompts": len(training),
        "scores": int(np.isfinite(training.scores).sum()),
        "evaluations": len(evaluations),
        "feedback_prompts": len(feedback),
        "feedback_rows": len(observations),
    }
    return data, dict(zip(evaluations.ids, labels, strict=True)), counts


def agreement(training: Examples, labels: Mapping[str, Label], challenger: Snapshot) -> dict[str, float] | None:
    """Normalized mutual information of the discovered tasks with the training prompts' true labels; None without labels."""
    rows = [i for i, name in enumerate(training.ids) if name in labels]
    truth = [labels[training.ids[i]] for i in rows]
    if len(set(truth)) < 2:
        return None
    prompts = ([training.ids[i] for i in rows], training.embeddings[rows], training.features[rows])
    found = Estimator(challenger).task_ids(*prompts)
    names = [f"{label.source}\0{label.task or ''}" for label in truth]
    return {
        "prompts": len(rows),
        "true": len(set(names)),
        "found": len(np.unique(found)),
        "nmi": float(normalized_mutual_info_score(names, found)),
    }
