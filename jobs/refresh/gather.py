"""What a refresh trains on and judges by; `agent.evaluation.challenger` holds each prompt out in its turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.errors import InvalidInput
from agent.evaluation.challenger import RefreshData
from agent.examples import join
from agent.feedback.state import evaluated, fresh, learn_one
from agent.snapshot import Snapshot
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
    """What a refresh reads from a store.

    Parameters
    ----------
    data
        What training and the gate read.
    labels
        prompt id -> true labels of its evaluation, to measure tasks against.
    counts
        Numbers of prompts, scores, evaluations and feedback rows, for the report.
    """

    data: RefreshData
    labels: Mapping[str, Label]
    counts: Mapping[str, int]


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
    rows = log.between(champion.position if champion else 0, position)
    hearing = learn_one(champion, rows, evaluated(evaluations))
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
        RefreshData(
            training=training,
            evaluations=evaluations,
            observations=fresh(observations, drifts),
            position=position,
            carried=hearing.state(),
        ),
        labels=dict(zip(evaluations.ids, labels, strict=True)),
        counts={
            "prompts": len(training),
            "scores": int(np.isfinite(training.scores).sum()),
            "evaluations": len(evaluations),
            "feedback_prompts": len(feedback),
            "feedback_rows": len(observations),
        },
    )
