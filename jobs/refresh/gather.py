"""What a refresh trains on and judges by; `agent.evaluation.trial` holds each prompt out in its turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import InvalidInput
from agent.feedback.state import evaluated, fresh, hear, rows_since
from agent.snapshot import Snapshot
from agent.types import Examples, Observation
from jobs.refresh.seed import seed_examples
from store.database import Database
from store.drifts import DriftStore
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationStore, Label
from store.examples import feedback_examples
from store.feedback import FeedbackLog
from store.pool.models import ModelPool

DRIFTS = 1000
"""Silent changes that training looks back on, the latest."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything known up to ``position`` of the feedback log.

    Parameters
    ----------
    training
        What a challenger is trained on: in a store, seed prompts (priors only), evaluations and feedback.
    evaluations
        Those of the training prompts that have any.
    observations
        Feedback since the champion's position.
    position
        Of the last feedback row that was read.
    carried
        States of the ledger and of the watches at ``position``, for the challenger to go on from.
    labels
        prompt id -> true labels of its evaluation, to measure tasks against.
    counts
        For the report.
    """

    training: Examples
    evaluations: Examples
    observations: Sequence[Observation]
    position: int
    carried: Mapping[str, Any] | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def gather(database: Database, log: FeedbackLog, encoder: CachedEncoder, *, champion: Snapshot | None) -> Gathered:
    """Read the store.

    Parameters
    ----------
    champion
        What serves; None where nothing that can be read does. Feedback after its position was not in its training.

    Raises
    ------
    InvalidInput
        Where there are evaluations, but none that this encoder can read: training without them would forget them.
    """
    position = log.head()
    store = EvaluationStore(database)
    changes = DriftStore(database).list(limit=DRIFTS)
    drifts = [found.drift for found in changes]
    evaluations, labels = store.examples(encoder.fingerprint, drifts=changes)
    unread = sum(count.prompts for count in store.counts()) - len(evaluations)
    if unread > 0 and not len(evaluations):
        raise InvalidInput(
            f"all {unread:,} evaluated prompts were encoded by another encoder than {encoder.fingerprint!r}; "
            "import their files again, or set THALWEG_ENCODER back",
            param="THALWEG_ENCODER",
        )
    rows = rows_since(log, champion.position if champion else 0, position)
    hearing = hear(champion, rows, evaluated(evaluations))
    feedback = feedback_examples(database, encoder.fingerprint, position, hearing.ledger, drifts)
    training = join(
        [
            seed_examples(encoder, [model.card for model in ModelPool(database).list()]),
            evaluations,
            feedback,
        ]
    )
    observations = [o for o in rows if o.other is None]  # a comparison is no score
    return Gathered(
        training=training,
        labels=dict(zip(evaluations.ids, labels, strict=True)),
        evaluations=evaluations,
        observations=fresh(observations, drifts),
        position=position,
        carried=hearing.state(),
        counts={
            "prompts": len(training),
            "scores": int(np.isfinite(training.scores).sum()),
            "evaluations": len(evaluations),
            "feedback_prompts": len(feedback),
            "feedback_rows": len(observations),
        },
    )


def join(parts: Sequence[Examples]) -> Examples:
    """All parts as one: models and prompts united; what several parts know of the same pair is averaged by trust."""
    parts = [p for p in parts if len(p)]
    models = tuple(dict.fromkeys(m for p in parts for m in p.models))
    ids = tuple(dict.fromkeys(i for p in parts for i in p.ids))
    row, column = {v: k for k, v in enumerate(ids)}, {v: k for k, v in enumerate(models)}
    first: dict[str, tuple[Examples, int]] = {}
    for part in parts:
        for i, name in enumerate(part.ids):
            first.setdefault(name, (part, i))

    def united(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(ids, models) means, NaN where nothing is known, and the trust in them together."""
        total, trust = np.zeros((len(ids), len(models))), np.zeros((len(ids), len(models)))
        for part in parts:
            values = getattr(part, name)
            if values is not None:
                at = np.ix_([row[i] for i in part.ids], [column[m] for m in part.models])
                known = part.trust if name == "scores" else np.isfinite(values).astype(np.float64)
                total[at] += known * np.where(known > 0, values, 0.0)
                trust[at] += known
        mean = np.full(total.shape, np.nan)
        np.divide(total, trust, out=mean, where=trust > 0)
        return mean, trust

    (scores, trust), (costs, _), (prior, _) = united("scores"), united("costs"), united("prior")
    return Examples(
        ids=ids,
        embeddings=np.stack([p.embeddings[i] for p, i in first.values()]),
        features=np.stack([p.features[i] for p, i in first.values()]),
        scores=scores,
        models=models,
        costs=None if np.isnan(costs).all() else costs,
        prior=None if np.isnan(prior).all() else prior,
        texts=tuple(p.texts[i] if p.texts else "" for p, i in first.values()),
        weights=None if all(p.weights is None for p in parts) else np.minimum(trust, 1.0),
    )
