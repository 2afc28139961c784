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
from agent.ledger import Ledger
from agent.ope import Value
from agent.snapshot import Snapshot
from agent.types import Examples, Observation
from jobs.judged import judged

Array = NDArray[np.float64]


def try_out(
    champion: Snapshot,
    challenger: Snapshot,
    evaluations: Examples,
    observations: Sequence[Observation],
    *,
    ledger: Ledger | None = None,
    seed: int = 0,
) -> GateReport:
    """Whether ``challenger`` is to replace ``champion``.

    Parameters
    ----------
    evaluations
        Prompts with the scores of several models.
    observations
        Feedback that the champion was not trained on.
    ledger
        Says what feedback is worth; one that has heard nothing where None.
    seed
        Of the lottery among models that a snapshot does not know.
    """
    old, new = Estimator(champion), Estimator(challenger)
    by_evaluation = None
    if len(evaluations):
        models = tuple(dict.fromkeys((*evaluations.models, *challenger.models, *champion.models)))
        scores = np.full((len(evaluations), len(models)), np.nan)
        # One from before its model changed tells nothing of it now.
        current = np.where(evaluations.trust == 1.0, evaluations.scores, np.nan)
        scores[:, [models.index(m) for m in evaluations.models]] = current
        before, after = (
            qualities(e, evaluations.ids, evaluations.embeddings, evaluations.features, models, seed)
            for e in (old, new)
        )
        by_evaluation = evaluation_difference(before, after, scores)
    return judge(by_evaluation, difference(old, new, observations, ledger or Ledger(), seed))


def difference(
    champion: Estimator, challenger: Estimator, observations: Sequence[Observation], ledger: Ledger, seed: int = 0
) -> Value | None:
    """How much better ``challenger`` would have routed decisions whose scores neither saw; None without any.

    Both take the best model, by quality less what its cost is charged at, among those that the decision could choose,
    and earn the answer's score less that charge.
    """
    found = judged(observations, (*challenger.models, *champion.models), ledger)
    if not len(found):
        return None
    ids = [o.prompt_id for o in found.last]
    before, after = (
        found.greedy(qualities(e, ids, found.embeddings, found.features, found.models, seed))
        for e in (champion, challenger)
    )
    # What the decisions expected was not fitted on these scores, and favours neither snapshot.
    return feedback_difference(before, after, found.quality - found.charge, found.net())


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
