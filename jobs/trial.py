"""The trial of a challenger: both snapshots route prompts whose scores neither saw, and the gate judges.

A prompt that a snapshot was trained on is judged by what its training said with that prompt's scores hidden
(cross-validation: each is held out in its turn), any other by the estimates that it would serve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.estimate import Estimator
from agent.gate import GateReport, evaluation_difference, feedback_difference, judge
from agent.ope import Logged
from agent.snapshot import Snapshot
from agent.types import Examples, Observation

Array = NDArray[np.float64]


def try_out(
    champion: Snapshot,
    challenger: Snapshot,
    evaluations: Examples,
    observations: Sequence[Observation],
    *,
    seed: int = 0,
) -> GateReport:
    """Whether ``challenger`` is to replace ``champion``.

    Parameters
    ----------
    evaluations
        Prompts with the scores of several models.
    observations
        Feedback that the champion was not trained on, each with the propensity of the model that answered.
    """
    old, new = Estimator(champion), Estimator(challenger)
    models = tuple(dict.fromkeys((*evaluations.models, *challenger.models, *champion.models)))
    by_evaluation = by_feedback = None
    if len(evaluations):
        scores = np.full((len(evaluations), len(models)), np.nan)
        # One from before its model changed tells nothing of it now.
        current = np.where(evaluations.trust == 1.0, evaluations.scores, np.nan)
        scores[:, [models.index(m) for m in evaluations.models]] = current
        before, after = (
            qualities(e, evaluations.ids, evaluations.embeddings, evaluations.features, models, seed)
            for e in (old, new)
        )
        by_evaluation = evaluation_difference(before, after, scores)
    seen = [o for o in observations if o.model in models]
    if seen:
        embeddings = np.stack([o.encoded.embedding for o in seen])
        features = np.stack([o.encoded.features for o in seen])
        prompts = [o.prompt_id for o in seen]
        before, after = (qualities(e, prompts, embeddings, features, models, seed) for e in (old, new))
        log = Logged(
            chosen=np.array([models.index(o.model) for o in seen]),
            score=np.array([o.score for o in seen]),
            propensity=np.array([o.propensity for o in seen]),
        )
        # Neither saw these scores, and their mean favours neither; of a model that one alone knows, it speaks alone.
        known = np.array([[m in s.models for m in models] for s in (champion, challenger)], np.float64)  # (2, m)
        known[:, ~known.any(axis=0)] = 1.0
        quality = (known[0] * before + known[1] * after) / known.sum(axis=0)
        by_feedback = feedback_difference(_greedy(before), _greedy(after), quality, log)
    return judge(by_evaluation, by_feedback)


def qualities(
    estimator: Estimator,
    ids: Sequence[str],
    embeddings: NDArray[np.float32],
    features: NDArray[np.float32],
    models: Sequence[str],
    seed: int,
) -> Array:
    """(n, m) estimates, as a choice leans them, in the columns ``models``.

    A model that the snapshot does not know stands at the others' mean. Among unknown models the choice must be a lottery,
    not the first column, hence the jitter.
    """
    known = estimator.lean(estimator.foresee(ids, embeddings, features))
    full = np.repeat(known.mean(axis=1, keepdims=True), len(models), axis=1)
    full += np.random.default_rng(seed).normal(0.0, 1e-6, full.shape)
    full[:, [models.index(m) for m in estimator.models]] = known
    return full


def _greedy(quality: Array) -> Array:
    """(n, m) all probability on each row's best model."""
    policy = np.zeros_like(quality)
    policy[np.arange(len(quality)), quality.argmax(axis=1)] = 1.0
    return policy
