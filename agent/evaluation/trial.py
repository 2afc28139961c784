"""The trial of a challenger: both snapshots route prompts whose scores neither saw, and the gate judges.

A prompt that a snapshot was trained on is judged by what its training said with that prompt's scores hidden
(cross-validation: each is held out in its turn), any other by the estimates that it would serve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.estimate import Estimator
from agent.evaluation.gate import GateReport, evaluation_difference, feedback_difference, judge
from agent.evaluation.logged import Choices, choices, qualities
from agent.evaluation.off_policy import Value
from agent.feedback.ledger import Ledger
from agent.snapshot import Snapshot
from agent.types import Examples, Observation


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
    found = choices(observations, ledger or Ledger(), champion.encoder)
    return judge(by_evaluation, difference(old, new, found, seed))


def difference(champion: Estimator, challenger: Estimator, found: Choices, seed: int = 0) -> Value | None:
    """How much better ``challenger`` would have routed decisions whose scores neither saw; None without any.

    Both take the best model, by quality less what its cost is charged at, among those that the decision could choose,
    and earn the answer's score less that charge.
    """
    if not len(found):
        return None
    before, after = (found.greedy(found.expected(e, seed)) for e in (champion, challenger))
    # What the decisions expected was not fitted on these scores, and favours neither snapshot.
    return feedback_difference(before, after, found.quality - found.charge, found.net)
