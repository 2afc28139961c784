"""Logged decisions and their feedback as arrays, for off-policy evaluation.

A decision tells something of other policies only where at least two models were eligible: not one that a client sent to a
model by name. One made without exploration tells only that two policies which agree on it do not differ there;
`LoggedDecisions.explored` leaves such decisions out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from agent.estimate import Estimator
from agent.evaluation.off_policy import ScoredChoices
from agent.feedback.checks import readable
from agent.feedback.ledger import Ledger
from agent.feedback.state import latest_ratings
from agent.observations import Observation
from agent.types import Array


@dataclass(frozen=True, slots=True)
class LoggedDecisions(ScoredChoices):
    """n scored decisions among m models, and how many others could not be used.

    Parameters
    ----------
    chosen, score, score_weight, propensity
        See `ScoredChoices`; scores are the ledger's means of each decision's calibrated ratings, weights are in (0, 1].
    models
        The columns.
    prompts
        Id of each decision's prompt.
    first_position
        (n,) position of each decision's first feedback; 0 where that came before all rows that were read.
    eligible
        (n, m) which models could be chosen.
    quality
        (n, m) as estimated by the decision, before any feedback; the decision's mean where a model's is not known.
    cost_penalty
        (n, m) lambda times cost, by the request's own tradeoff; 0 where not known.
    cost
        (n, m) expected USD; 0 where not known.
    embeddings, features
        (n, d) and (n, f) of the prompts.
    excluded
        reason -> decisions with feedback that are not among these.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    first_position: NDArray[np.int64]
    eligible: NDArray[np.bool_]
    quality: Array
    cost_penalty: Array
    cost: Array
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    excluded: Mapping[str, int] = field(default_factory=dict)

    def net(self) -> Self:
        """The same with cost penalties taken off scores and qualities: what these estimate is utility."""
        return replace(
            self, score=self.score - self.of_chosen(self.cost_penalty), quality=self.quality - self.cost_penalty
        )

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """The decisions of these rows."""
        at = np.flatnonzero(rows)
        kept = {
            name: getattr(self, name)[at]
            for name in self.__dataclass_fields__
            if name not in ("models", "prompts", "excluded")
        }
        return replace(self, prompts=tuple(self.prompts[i] for i in at), **kept)

    def explored(self) -> Self:
        """The decisions in which every eligible model had a positive propensity; the others are counted in ``excluded``."""
        could: NDArray[np.bool_] = np.all(~self.eligible | (self.propensity > 0.0), axis=1)
        return replace(self.take(could), excluded={**self.excluded, "unexplored": int((~could).sum())})

    def estimates(self, estimator: Estimator, seed: int = 0) -> Array:
        """(n, m) `snapshot_qualities` of the decisions."""
        return snapshot_qualities(estimator, self.prompts, self.embeddings, self.features, self.models, seed)

    def greedy(self, quality: Array) -> Array:
        """(n, m) the policy that chooses the eligible model of highest utility, given ``quality`` (n, m)."""
        best = np.where(self.eligible, quality - self.cost_penalty, -np.inf).argmax(axis=1)
        policy = np.zeros_like(quality)
        policy[np.arange(len(self)), best] = 1.0
        return policy


def snapshot_qualities(
    estimator: Estimator,
    prompts: Sequence[str],
    embeddings: NDArray[np.float32],
    features: NDArray[np.float32],
    models: Sequence[str],
    seed: int = 0,
) -> Array:
    """(n, m) out-of-fold qualities by a snapshot, shrunken as a choice shrinks them.

    A model that it does not know gets the mean of those that it does, and a tiny noise (by ``seed``), so that the choice
    among unknown models is random, not always the first column.
    """
    known = estimator.shrink_to_mean(estimator.predict_out_of_fold(prompts, embeddings, features))
    full = np.repeat(known.mean(axis=1, keepdims=True), len(models), axis=1)
    full += np.random.default_rng(seed).normal(0.0, 1e-6, full.shape)
    for j, model in enumerate(models):
        if model in estimator.models:
            full[:, j] = known[:, estimator.models.index(model)]
    return full


def logged_decisions(rows: Iterable[Observation], ledger: Ledger, encoder: str) -> LoggedDecisions:
    """Decisions with feedback, as arrays.

    Parameters
    ----------
    rows
        Of the feedback log, in order.
    ledger
        Calibrates and weights the ratings; those of one decision are averaged.
    encoder
        Fingerprint of the encoder whose embeddings are wanted; decisions on others are left out.
    """
    ratings = [o for o in rows if o.other is None]  # a comparison is not a score
    first: dict[str, int] = {}
    for o in ratings:
        first.setdefault(o.decision_id, o.seq if o.revises is None else 0)
    last = latest_ratings(ratings)
    scores = ledger.mean_scores(replace(o, prompt_id=o.decision_id) for o in last)

    excluded = {"of another encoder": 0, "unreadable": 0, "without weight": 0, "without a choice": 0}
    kept: list[Observation] = []
    own = [o for o in last if o.encoder == encoder]
    fits = readable([o.encoded.embedding for o in own]) & readable([o.encoded.features for o in own])
    unreadable = {o.decision_id for o, fit in zip(own, fits) if not fit}
    for o in {o.decision_id: o for o in last}.values():
        if o.decision_id in unreadable:
            excluded["unreadable"] += 1
        elif o.encoder != encoder:
            excluded["of another encoder"] += 1
        elif (o.decision_id, o.model) not in scores:
            excluded["without weight"] += 1
        elif len(o.actions) < 2 or all(a.model != o.model for a in o.actions):
            excluded["without a choice"] += 1
        else:
            kept.append(o)

    models = tuple(sorted({a.model for o in kept for a in o.actions}))
    column = {model: j for j, model in enumerate(models)}
    eligible = np.zeros((len(kept), len(models)), np.bool_)
    actions = np.full((4, len(kept), len(models)), math.nan)
    for i, o in enumerate(kept):
        at = [column[a.model] for a in o.actions]
        eligible[i, at] = True
        actions[:, i, at] = np.array([(a.propensity, a.quality, a.cost_penalty, a.cost) for a in o.actions]).T
    propensity, quality, cost_penalty, cost = np.where(np.isfinite(actions), actions, 0.0)
    known = np.isfinite(actions[1])
    mean = quality.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    calibrated = [scores[o.decision_id, o.model] for o in kept]
    return LoggedDecisions(
        chosen=np.array([column[o.model] for o in kept], np.int64),
        score=np.array([score.value for score in calibrated]),
        score_weight=np.array([score.weight for score in calibrated]),
        propensity=propensity,
        models=models,
        prompts=tuple(o.prompt_id for o in kept),
        first_position=np.array([first[o.decision_id] for o in kept], np.int64),
        eligible=eligible,
        quality=np.where(known, quality, mean[:, None]),
        cost_penalty=cost_penalty,
        cost=cost,
        embeddings=np.array([o.encoded.embedding for o in kept], np.float32),
        features=np.array([o.encoded.features for o in kept], np.float32),
        excluded=excluded,
    )
