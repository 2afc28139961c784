"""The core of a refresh, without a database: train a challenger on all that is known, and try it against the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.estimate import Estimator
from agent.evaluation.gate import GateReport, evaluation_difference, feedback_difference, judge
from agent.evaluation.logged import LoggedDecisions, logged_decisions, snapshot_qualities
from agent.evaluation.off_policy import Value
from agent.examples import Examples
from agent.feedback.ledger import Ledger
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import Observation

Progress = Callable[[str, float], None]


GROWTH = 1.5
"""A challenger of so many times the champion's scored prompts is promoted unless it is proven worse."""


@dataclass(frozen=True, slots=True)
class Challenger:
    """A challenger that was trained, and what the gate says of it."""

    snapshot: Snapshot
    verdict: GateReport


def train_challenger(
    known: RefreshData, champion: Snapshot | None, *, encoder: str, seed: int, progress: Progress | None = None
) -> Challenger:
    """Train on what is known and let the gate judge the result.

    Parameters
    ----------
    known
        Training data, and what is held out for the gate.
    champion
        What serves now; None where nothing that can be read does. Then, and where it reads the embeddings of another
        encoder, the challenger is promoted uncontested.
    encoder
        Fingerprint of the encoder that made the embeddings of ``known``.
    seed
        Of everything random.
    progress
        Told (stage, share done); what it raises ends the challenge.

    Raises
    ------
    InvalidInput
        Where there is nothing to learn from.
    """
    tell: Progress = progress or (lambda stage, share: None)
    rival = champion if champion is not None and champion.encoder == encoder else None
    snapshot = fit(
        known.training,
        encoder=encoder,
        champion=rival,
        position=known.position,
        seed=seed,
        carried=known.carried,
        progress=lambda stage, share: tell(stage, 0.9 * share),
    )
    tell("gate", 0.9)
    if rival is None:
        return Challenger(snapshot, GateReport(True, _uncontested(champion), None, None, None))
    ledger = Ledger.from_state(known.carried["ledger"] if known.carried else None, n_evaluated=snapshot.evaluated)
    verdict = evaluate_challenger(rival, snapshot, known.evaluations, known.observations, ledger=ledger, seed=seed)
    return Challenger(snapshot, outgrown(verdict, rival, snapshot))


def outgrown(verdict: GateReport, champion: Snapshot, challenger: Snapshot) -> GateReport:
    """``verdict``, but promoting a challenger that knows far more than the champion unless it is proven worse.

    A greedy router hardly ever tries what would prove a challenger right, so a champion of few prompts, or one that does
    not know a model of the pool, could never be followed (docs/log.md). It has little to defend.
    """
    if verdict.promote or verdict.proven_worse:
        return verdict
    strangers = sorted(set(challenger.models) - set(champion.models))
    if strangers:
        return replace(
            verdict, promote=True, reason=f"the champion does not know {', '.join(strangers)}; {verdict.reason}"
        )
    before, after = champion.scored_prompts, challenger.scored_prompts
    if after >= GROWTH * before:
        return replace(verdict, promote=True, reason=f"{after:,} scored prompts outgrow {before:,}; {verdict.reason}")
    return verdict


def _uncontested(champion: Snapshot | None) -> str:
    if champion is None:
        return "uncontested: there is no champion that can be read"
    return f"uncontested: the champion reads the embeddings of another encoder ({champion.encoder})"


def evaluate_challenger(
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
        current = np.where(evaluations.score_weight == 1.0, evaluations.scores, np.nan)
        scores[:, [models.index(m) for m in evaluations.models]] = current
        before, after = (
            snapshot_qualities(e, evaluations.ids, evaluations.embeddings, evaluations.features, models, seed)
            for e in (old, new)
        )
        by_evaluation = evaluation_difference(before, after, scores)
    found = logged_decisions(observations, ledger or Ledger(), champion.encoder)
    return judge(by_evaluation, difference(old, new, found, seed))


def difference(champion: Estimator, challenger: Estimator, found: LoggedDecisions, seed: int = 0) -> Value | None:
    """How much better ``challenger`` would have routed decisions whose scores neither saw; None without any.

    Both take the best model, by quality less what its cost is charged at, among those that the decision could choose,
    and earn the answer's score less that charge.
    """
    if not len(found):
        return None
    before, after = (found.greedy(found.expected(e, seed)) for e in (champion, challenger))
    # What the decisions expected was not fitted on these scores, and favours neither snapshot.
    return feedback_difference(before, after, found.quality - found.cost_penalty, found.net)


@dataclass(frozen=True, slots=True)
class RefreshData:
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
    """

    training: Examples
    evaluations: Examples
    observations: Sequence[Observation]
    position: int
    carried: Mapping[str, Any] | None = None
