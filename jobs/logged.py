"""Logged decisions and what was said of them, as arrays: what every off-policy question reads.

A decision says something of other policies only where it could have gone otherwise: where at least two models were
eligible, and each of them had a positive propensity. One that the client had sent to a model by name, or that was not to
explore, says nothing of what another model would have earned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from agent.estimate import Estimator
from agent.ledger import Ledger
from agent.ope import Logged
from agent.snapshot import Snapshot
from agent.types import Candidate, Observation
from jobs.gather import latest
from store.decisions import DecisionLog

Array = NDArray[np.float64]

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Choices:
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
    score, trust
        (n,) what the ledger makes of the words on it: an estimate of its quality, and its weight in (0, 1].
    propensity
        (n, m) with which each model was to be chosen: the logging policy. 0 where excluded.
    quality
        (n, m) as the decision estimated it, so before anything was said; 0 where excluded.
    charge
        (n, m) what its cost takes off a model's utility, by the request's own tradeoff.
    cost
        (n, m) expected USD.
    embeddings, features
        (n, d) and (n, f) of the prompts.
    left_out
        reason -> decisions of which there was a word, but that tell nothing.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    first: NDArray[np.int64]
    chosen: NDArray[np.int64]
    score: Array
    trust: Array
    propensity: Array
    quality: Array
    charge: Array
    cost: Array
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """(n, m) which models could be chosen."""
        return self.propensity > 0.0

    @property
    def log(self) -> Logged:
        """As `agent.ope` reads it."""
        return Logged(self.chosen, self.score, self.propensity[np.arange(len(self)), self.chosen], trust=self.trust)

    def take(self, rows: NDArray[np.bool_]) -> Choices:
        """The decisions of these rows."""
        at = np.flatnonzero(rows)
        kept = {
            name: getattr(self, name)[at]
            for name in self.__dataclass_fields__
            if name not in ("models", "prompts", "left_out")
        }
        return replace(self, prompts=tuple(self.prompts[i] for i in at), **kept)

    def expected(self, snapshot: Snapshot) -> Array:
        """(n, m) qualities that a snapshot expects, scores of a decision's own prompt hidden, as a choice leans them.

        A model that it does not know stands at the mean of the others.
        """
        estimator = Estimator(snapshot)
        known = estimator.lean(estimator.foresee(self.prompts, self.embeddings, self.features))
        full = np.repeat(known.mean(axis=1, keepdims=True), len(self.models), axis=1)
        for j, model in enumerate(self.models):
            if model in snapshot.models:
                full[:, j] = known[:, snapshot.models.index(model)]
        return full

    def greedy(self, quality: Array) -> Array:
        """(n, m) the policy that takes, of the eligible models, that of highest utility by ``quality`` (n, m)."""
        best = np.where(self.eligible, quality - self.charge, -np.inf).argmax(axis=1)
        policy = np.zeros_like(quality)
        policy[np.arange(len(self)), best] = 1.0
        return policy


def choices(
    rows: Iterable[Observation],
    rankings: Mapping[str, Sequence[Candidate]],
    ledger: Ledger,
) -> Choices:
    """Lay decisions out.

    Parameters
    ----------
    rows
        Of the feedback log, in order.
    rankings
        decision id -> what it weighed; words on other decisions are left out.
    ledger
        Which calibrates and weighs the words; those on one decision are averaged.
    """
    words = [o for o in rows if o.other is None]  # a comparison is no score
    first: dict[str, int] = {}
    for o in words:
        first.setdefault(o.decision_id, o.seq if o.revises is None else 0)
    last = sorted(latest(words), key=lambda o: o.seq)
    heard = ledger.means(replace(o, prompt_id=o.decision_id) for o in last)
    said = {o.decision_id: o for o in last}

    left = {"of another encoder": 0, "disbelieved": 0, "without a choice": 0, "unexplored": 0}
    kept: list[tuple[Observation, list[Candidate]]] = []
    for name, o in said.items():
        eligible = [c for c in rankings.get(name, ()) if c.excluded is None]
        if name not in rankings:
            left["of another encoder"] += 1
        elif (name, o.model) not in heard:
            left["disbelieved"] += 1
        elif len(eligible) < 2 or all(c.model != o.model for c in eligible):
            left["without a choice"] += 1
        elif not all(c.propensity > 0.0 for c in eligible):
            left["unexplored"] += 1
        else:
            kept.append((o, eligible))

    models = tuple(sorted({c.model for _, candidates in kept for c in candidates}))
    column = {model: j for j, model in enumerate(models)}
    laid = np.zeros((4, len(kept), len(models)))
    for i, (_, candidates) in enumerate(kept):
        for c in candidates:
            figures = (c.propensity, c.quality, c.charge, c.cost)
            laid[:, i, column[c.model]] = [x if math.isfinite(x) else 0.0 for x in figures]
    encoded = [o.encoded for o, _ in kept]
    words_of = [heard[o.decision_id, o.model] for o, _ in kept]
    return Choices(
        models=models,
        prompts=tuple(o.prompt_id for o, _ in kept),
        first=np.array([first[o.decision_id] for o, _ in kept], np.int64),
        chosen=np.array([column[o.model] for o, _ in kept], np.int64),
        score=np.array([word.score for word in words_of]),
        trust=np.array([word.weight for word in words_of]),
        propensity=laid[0],
        quality=laid[1],
        charge=laid[2],
        cost=laid[3],
        embeddings=np.array([e.embedding for e in encoded], np.float32),
        features=np.array([e.features for e in encoded], np.float32),
        left_out=left,
    )


def rankings_of(decisions: DecisionLog, rows: Sequence[Observation], encoder: str) -> dict[str, tuple[Candidate, ...]]:
    """What the decisions of ``rows`` weighed, of those whose prompts ``encoder`` encoded."""
    ids = list(dict.fromkeys(o.decision_id for o in rows))
    found: dict[str, tuple[Candidate, ...]] = {}
    for start in range(0, len(ids), _PAGE):
        page = decisions.rankings(ids[start : start + _PAGE])
        found |= {id: ranking.candidates for id, ranking in page.items() if ranking.encoder == encoder}
    return found
