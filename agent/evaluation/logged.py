"""Logged decisions and what was said of them, as arrays: what every off-policy question reads.

A decision says something of other policies only where it could have gone otherwise: where at least two models were
eligible. One that the client had sent to a model by name says nothing of what another model would have earned. One that
was not to explore (`LoggedDecisions.explored` leaves it out) says only that two policies that agree on it differ by nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from agent.estimate import Estimator
from agent.evaluation.off_policy import Logged
from agent.feedback.ledger import Ledger
from agent.feedback.state import latest
from agent.types import Array, Observation


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """n decisions among m models, the last word on each, and how many others could not be read.

    Parameters
    ----------
    models
        The columns.
    prompts
        Id of each decision's prompt.
    first
        (n,) position of the first word on each; 0 where that stood before all that was read.
    chosen
        (n,) column of the model that answered.
    score, score_weight
        (n,) what the ledger makes of the words on it: an estimate of its quality, and its weight in (0, 1].
    eligible
        (n, m) which models could be chosen.
    propensity
        (n, m) with which each model was to be chosen: the logging policy. 0 where not eligible.
    quality
        (n, m) as the decision estimated it, so before anything was said; where that is not known, the decision's mean.
    cost_penalty
        (n, m) what its cost takes off a model's utility, by the request's own tradeoff; 0 where not known.
    cost
        (n, m) expected USD; 0 where not known.
    embeddings, features
        (n, d) and (n, f) of the prompts.
    excluded
        reason -> decisions of which there was a word, but that tell nothing.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    first: NDArray[np.int64]
    chosen: NDArray[np.int64]
    score: Array
    score_weight: Array
    eligible: NDArray[np.bool_]
    propensity: Array
    quality: Array
    cost_penalty: Array
    cost: Array
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def log(self) -> Logged:
        """As `agent.evaluation.off_policy` reads it."""
        taken = self.propensity[np.arange(len(self)), self.chosen]
        return Logged(self.chosen, self.score, taken, options=self.propensity, score_weight=self.score_weight)

    @property
    def net(self) -> Logged:
        """The log with each score less the charge of its model: utility, which is what routing is for."""
        return replace(self.log, score=self.score - self.cost_penalty[np.arange(len(self)), self.chosen])

    def take(self, rows: NDArray[np.bool_]) -> LoggedDecisions:
        """The decisions of these rows."""
        at = np.flatnonzero(rows)
        kept = {
            name: getattr(self, name)[at]
            for name in self.__dataclass_fields__
            if name not in ("models", "prompts", "excluded")
        }
        return replace(self, prompts=tuple(self.prompts[i] for i in at), **kept)

    def explored(self) -> LoggedDecisions:
        """The decisions in which every eligible model had a positive propensity; the others are counted as left out."""
        could: NDArray[np.bool_] = np.all(~self.eligible | (self.propensity > 0.0), axis=1)
        return replace(self.take(could), excluded={**self.excluded, "unexplored": int((~could).sum())})

    def expected(self, estimator: Estimator, seed: int = 0) -> Array:
        """(n, m) `snapshot_qualities` of the decisions."""
        return snapshot_qualities(estimator, self.prompts, self.embeddings, self.features, self.models, seed)

    def greedy(self, quality: Array) -> Array:
        """(n, m) the policy that takes, of the eligible models, that of highest utility by ``quality`` (n, m)."""
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
    """(n, m) qualities that a snapshot expects, scores of a prompt's own id hidden, as a choice leans them.

    A model that it does not know stands at the mean of those that it does. Among unknown models the choice must be a
    lottery (by ``seed``), not the first column, hence the jitter.
    """
    known = estimator.shrink_to_mean(estimator.predict_out_of_fold(prompts, embeddings, features))
    full = np.repeat(known.mean(axis=1, keepdims=True), len(models), axis=1)
    full += np.random.default_rng(seed).normal(0.0, 1e-6, full.shape)
    for j, model in enumerate(models):
        if model in estimator.models:
            full[:, j] = known[:, estimator.models.index(model)]
    return full


def logged_decisions(rows: Iterable[Observation], ledger: Ledger, encoder: str) -> LoggedDecisions:
    """Lay decisions out.

    Parameters
    ----------
    rows
        Of the feedback log, in order.
    ledger
        Which calibrates and weighs the words; those on one decision are averaged.
    encoder
        Fingerprint of the encoder whose embeddings are wanted; decisions on other prompts are left out.
    """
    words = [o for o in rows if o.other is None]  # a comparison is no score
    first: dict[str, int] = {}
    for o in words:
        first.setdefault(o.decision_id, o.seq if o.revises is None else 0)
    last = latest(words)
    heard = ledger.mean_scores(replace(o, prompt_id=o.decision_id) for o in last)

    left = {"of another encoder": 0, "disbelieved": 0, "without a choice": 0}
    kept: list[Observation] = []
    for o in {o.decision_id: o for o in last}.values():
        if o.encoder != encoder:
            left["of another encoder"] += 1
        elif (o.decision_id, o.model) not in heard:
            left["disbelieved"] += 1
        elif len(o.actions) < 2 or all(c.model != o.model for c in o.actions):
            left["without a choice"] += 1
        else:
            kept.append(o)

    models = tuple(sorted({c.model for o in kept for c in o.actions}))
    column = {model: j for j, model in enumerate(models)}
    eligible = np.zeros((len(kept), len(models)), np.bool_)
    laid = np.full((4, len(kept), len(models)), math.nan)
    for i, o in enumerate(kept):
        at = [column[c.model] for c in o.actions]
        eligible[i, at] = True
        laid[:, i, at] = np.array([(c.propensity, c.quality, c.cost_penalty, c.cost) for c in o.actions]).T
    propensity, quality, cost_penalty, cost = np.where(np.isfinite(laid), laid, 0.0)
    known = np.isfinite(laid[1])
    mean = quality.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    said = [heard[o.decision_id, o.model] for o in kept]
    return LoggedDecisions(
        models=models,
        prompts=tuple(o.prompt_id for o in kept),
        first=np.array([first[o.decision_id] for o in kept], np.int64),
        chosen=np.array([column[o.model] for o in kept], np.int64),
        score=np.array([word.value for word in said]),
        score_weight=np.array([word.weight for word in said]),
        eligible=eligible,
        propensity=propensity,
        quality=np.where(known, quality, mean[:, None]),
        cost_penalty=cost_penalty,
        cost=cost,
        embeddings=np.array([o.encoded.embedding for o in kept], np.float32),
        features=np.array([o.encoded.features for o in kept], np.float32),
        excluded=left,
    )
