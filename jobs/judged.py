"""Feedback as off-policy evaluation reads it: one row a decision, its models' propensities beside what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.ledger import Ledger
from agent.ope import Logged
from agent.types import Choice, Observation

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """n decisions with feedback, in each of which at least two of m models could be chosen.

    Parameters
    ----------
    models
        The columns.
    last
        For each decision, the latest row of the log that scores it.
    eligible
        (n, m) whether a model could be chosen; where nothing was to be explored, only one had a propensity.
    log
        Calibrated scores, the trust in them, and propensities.
    quality
        (n, m) as the decision expected it before it was scored; the decision's mean where that is not known.
    charge
        (n, m) what a model's cost took off its utility.
    cost
        (n, m) expected USD, NaN where not known.
    """

    models: tuple[str, ...]
    last: tuple[Observation, ...]
    eligible: NDArray[np.bool_]
    log: Logged
    quality: Array
    charge: Array
    cost: Array

    def __len__(self) -> int:
        return len(self.last)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(n, d) of the decisions' prompts."""
        return np.stack([o.encoded.embedding for o in self.last])

    @property
    def features(self) -> NDArray[np.float32]:
        """(n, f) of the decisions' prompts."""
        return np.stack([o.encoded.features for o in self.last])

    @property
    def options(self) -> Array:
        """(n, m) propensities."""
        assert self.log.options is not None, "`judged` gives them"
        return self.log.options

    def greedy(self, quality: Array) -> Array:
        """(n, m) all probability on the best model by ``quality`` less charge, among those that could be chosen."""
        best = np.where(self.eligible, quality - self.charge, -np.inf).argmax(axis=1)
        policy = np.zeros_like(quality)
        policy[np.arange(len(policy)), best] = 1.0
        return policy

    def net(self) -> Logged:
        """The log with each score less the charge of its model: utility, which is what routing is for."""
        return replace(self.log, score=self.log.score - self.charge[np.arange(len(self)), self.log.chosen])

    def take(self, rows: NDArray[np.bool_]) -> Judged:
        """The decisions of these rows."""
        log, options, trust = self.log, self.options, self.log.trust
        return Judged(
            self.models,
            tuple(self.last[i] for i in np.flatnonzero(rows)),
            self.eligible[rows],
            Logged(
                log.chosen[rows],
                log.score[rows],
                log.propensity[rows],
                options[rows],
                None if trust is None else trust[rows],
            ),
            self.quality[rows],
            self.charge[rows],
            self.cost[rows],
        )


def judged(observations: Sequence[Observation], models: Sequence[str], ledger: Ledger) -> Judged:
    """Rows of the feedback log, joined by decision.

    Parameters
    ----------
    observations
        In the log's order, none revised and no comparison.
    models
        Columns that there are to be; those that a decision could choose are added.
    ledger
        Says what a score is worth. What it trusts not at all is left out, and so is a decision that had no choice.
    """
    by_decision = {o.decision_id: o for o in observations}
    worth = ledger.means([replace(o, prompt_id=o.decision_id) for o in observations])
    rows = [o for o in by_decision.values() if (o.decision_id, o.model) in worth]
    models = tuple(dict.fromkeys((*models, *(c.model for o in rows for c in o.choices), *(o.model for o in rows))))
    column = {name: j for j, name in enumerate(models)}
    rows, choices = _with_a_choice(rows, models)
    shape = (len(rows), len(models))
    eligible, options = np.zeros(shape, bool), np.zeros(shape)
    quality, charge, cost = np.full(shape, np.nan), np.zeros(shape), np.full(shape, np.nan)
    for i, found in enumerate(choices):
        at = [column[c.model] for c in found]
        eligible[i, at] = True
        options[i, at] = [c.propensity for c in found]
        quality[i, at] = [c.quality for c in found]
        charge[i, at] = [c.charge for c in found]
        cost[i, at] = [c.cost for c in found]
    known = np.isfinite(quality)
    mean = np.where(known, quality, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    heard = [worth[o.decision_id, o.model] for o in rows]
    log = Logged(
        chosen=np.array([column[o.model] for o in rows], np.int64),
        score=np.array([h.score for h in heard], np.float64),
        propensity=np.array([o.propensity for o in rows], np.float64),
        options=options,
        trust=np.array([h.weight for h in heard], np.float64),
    )
    return Judged(models, tuple(rows), eligible, log, np.where(known, quality, mean[:, None]), charge, cost)


def _with_a_choice(
    rows: Sequence[Observation], models: Sequence[str]
) -> tuple[list[Observation], list[tuple[Choice, ...]]]:
    """The rows in which more than one model could be chosen, and which; all share what is left where that is not known."""
    found = []
    for row in rows:
        rest = (1.0 - row.propensity) / max(len(models) - 1, 1)
        guessed = (Choice(m, row.propensity if m == row.model else rest, float("nan")) for m in models)
        found.append((row, row.choices or tuple(guessed)))
    kept = [(row, choices) for row, choices in found if len(choices) > 1]
    return [row for row, _ in kept], [choices for _, choices in kept]
