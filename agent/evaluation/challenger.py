"""The core of a refresh, without a database: train a challenger on everything known, and compare it with the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.estimate import Estimator
from agent.evaluation.gate import GateConfig, GateReport, describe, evaluation_difference, feedback_difference, judge
from agent.evaluation.logged import logged_decisions, snapshot_qualities
from agent.examples import Examples
from agent.feedback.checks import readable
from agent.feedback.ledger import Ledger
from agent.fit import FitConfig, fit
from agent.observations import Observation
from agent.online.drift import DriftConfig, moved
from agent.snapshot import Snapshot

Progress = Callable[[str, float], None]

GROWTH = 1.5
"""A challenger trained on so many times the champion's scored prompts is promoted unless it is proven worse."""


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
        States of the ledger and of the drift detectors at ``position``, which the challenger continues.
    """

    training: Examples
    evaluations: Examples
    observations: Sequence[Observation]
    position: int
    carried: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Challenger:
    """A trained challenger, and the gate's verdict on it."""

    snapshot: Snapshot
    verdict: GateReport


def train_challenger(
    data: RefreshData,
    champion: Snapshot | None,
    *,
    encoder: str,
    seed: int,
    next_task: int = 0,
    outgrow: int = 0,
    config: FitConfig = FitConfig(),
    progress: Progress | None = None,
) -> Challenger:
    """Train on what is known and let the gate judge the result.

    Parameters
    ----------
    data
        Training data, and what is held out for the gate.
    champion
        The snapshot that serves; None where there is none that can be read. Then, and where it was trained on another
        encoder's embeddings, the challenger is promoted without a comparison.
    encoder
        Fingerprint of the encoder that made the embeddings of ``data``.
    seed
        Of everything random.
    next_task
        No new task gets a lower id.
    outgrow
        Most scored prompts of the snapshots that the champion was put back in place of, or that were tried beside it;
        growth is measured from there, so that the same evidence does not promote another snapshot after a rollback, and
        a snapshot without proof does not end a trial of one that knows as much.
    config
        Of the training.
    progress
        Called with (stage, share done); what it raises ends the training.

    Raises
    ------
    InvalidInput
        Where there is nothing to learn from.
    """
    report: Progress = progress or (lambda stage, share: None)
    rival = comparable(champion, encoder)
    snapshot = fit(
        data.training,
        encoder=encoder,
        config=config,
        champion=rival,
        position=data.position,
        seed=seed,
        carried=data.carried,
        next_task=next_task,
        progress=lambda stage, share: report(stage, 0.9 * share),
    )
    report("gate", 0.9)
    if rival is not None and data.carried:
        by = estimate_changes(rival, snapshot, data.observations)
        detectors = moved(data.carried["drift_detectors"], by)
        snapshot = replace(snapshot, meta={**snapshot.meta, "drift_detectors": detectors})
    if rival is None:
        lack = (
            "no champion that can be read" if champion is None else f"only one of another encoder ({champion.encoder})"
        )
        return Challenger(snapshot, GateReport("promote", f"promoted uncontested: there is {lack}", None, None, None))
    state = data.carried["ledger"] if data.carried else None
    ledger = Ledger.from_state(state, n_evaluated=snapshot.n_evaluated, optimism=rival.optimism)
    verdict = evaluate_challenger(rival, snapshot, data.evaluations, data.observations, ledger=ledger, seed=seed)
    return Challenger(snapshot, outgrown(verdict, rival, snapshot, outgrow))


def comparable(champion: Snapshot | None, encoder: str) -> Snapshot | None:
    """The champion where it reads the embeddings of ``encoder``, so that a challenger can be compared with it, and one that
    takes its place held back against it; else None."""
    return champion if champion is not None and champion.encoder == encoder else None


def estimate_changes(
    champion: Snapshot, challenger: Snapshot, observations: Sequence[Observation], window: int = DriftConfig().window
) -> dict[str, float]:
    """model -> how much higher the challenger estimates it than the champion, on the prompts of its last ``window`` scores.

    The challenger was trained on those, so its out-of-fold estimates count.
    """
    last: dict[str, list[Observation]] = {}
    for o in observations:
        if o.encoder in ("", champion.encoder):
            last.setdefault(o.model, []).append(o)
    rows = [o for scored in last.values() for o in scored[-window:]]
    sound = readable([o.encoded.embedding for o in rows]) & readable([o.encoded.features for o in rows])
    rows = [o for o, is_sound in zip(rows, sound) if is_sound]
    if not rows:
        return {}
    models = [o.model for o in rows]
    embeddings = np.array([o.encoded.embedding for o in rows], np.float32)
    features = np.array([o.encoded.features for o in rows], np.float32)
    old, new = Estimator(champion), Estimator(challenger)
    before = old.of_models(old.estimate_batch(embeddings, features).quality, models)
    after = new.of_models(new.predict_out_of_fold([o.prompt_id for o in rows], embeddings, features), models)
    change = after - before
    return {model: float(change[[m == model for m in models]].mean()) for model in dict.fromkeys(models)}


def outgrown(verdict: GateReport, champion: Snapshot, challenger: Snapshot, outgrow: int = 0) -> GateReport:
    """``verdict``, but promoting a challenger that knows far more than the champion instead of sending it on trial.

    A greedy router hardly ever tries what would prove a challenger better, so a champion of few prompts, or one that does
    not know a model of the pool, could never be replaced (docs/log.md). Either must rest on at least `GateConfig.least`
    scores, and on more prompts than a snapshot that was rolled back or tried beside it (``outgrow``).
    """
    if verdict.outcome != "trial":
        return verdict
    least, before, after = GateConfig().least, max(champion.n_scored, outgrow), challenger.n_scored
    n_scores = challenger.scores_by_model
    new = [m for m in challenger.models if m not in champion.models and n_scores[m] >= least]
    why = ""
    if new and after >= outgrow + (least if outgrow else 0):
        why = f"it was trained on scores of {', '.join(sorted(new))}, which the champion does not know"
    elif outgrows(after, before):
        rolled_back = "" if before == champion.n_scored else f", those rolled back or tried since on at most {before:,}"
        why = f"it was trained on {after:,} scored prompts and the champion on {champion.n_scored:,}{rolled_back}"
    if not why:
        return verdict
    reason = f"promoted although not proven better, because {why} ({describe(verdict.pooled)})"
    return replace(verdict, outcome="promote", reason=reason)


def outgrows(after: int, before: int) -> bool:
    """Whether a snapshot trained on ``after`` scored prompts knows far more than one trained on ``before``.

    Examples
    --------
    >>> outgrows(60, 40), outgrows(70, 40), outgrows(1499, 1000), outgrows(1500, 1000)
    (False, True, False, True)
    """
    return after >= max(GROWTH * before, before + GateConfig().least)


def evaluate_challenger(
    champion: Snapshot,
    challenger: Snapshot,
    evaluations: Examples,
    observations: Sequence[Observation],
    *,
    ledger: Ledger | None = None,
    seed: int = 0,
) -> GateReport:
    """What held-out evidence says of ``challenger`` beside ``champion``.

    Parameters
    ----------
    evaluations
        Prompts with the scores of several models.
    observations
        Feedback that the champion was not trained on.
    ledger
        Calibrates and weights feedback; a new one where None.
    seed
        Of the random choice among models that a snapshot does not know.
    """
    old, new = Estimator(champion), Estimator(challenger)
    by_evaluations = by_feedback = None
    if len(evaluations):
        models = tuple(dict.fromkeys((*evaluations.models, *challenger.models, *champion.models)))
        scores = np.full((len(evaluations), len(models)), np.nan)
        # a score from before its model changed says nothing about the model now
        current = np.where(evaluations.score_weight == 1.0, evaluations.scores, np.nan)
        scores[:, [models.index(m) for m in evaluations.models]] = current
        before, after = (
            snapshot_qualities(e, evaluations.ids, evaluations.embeddings, evaluations.features, models, seed)
            for e in (old, new)
        )
        by_evaluations = evaluation_difference(before, after, scores)
    decisions = logged_decisions(observations, ledger or Ledger(), champion.encoder)
    if len(decisions):
        before, after = (decisions.greedy(decisions.estimates(e, seed)) for e in (old, new))
        net = (
            decisions.net()
        )  # the decisions' own estimates were not fitted to these scores, and favour neither snapshot
        by_feedback = feedback_difference(before, after, net.quality, net)
    return judge(by_evaluations, by_feedback)
