"""What policies would have earned on logged decisions, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.errors import InvalidInput, did_you_mean
from agent.estimate import Estimator
from agent.evaluation.logged import LoggedDecisions
from agent.evaluation.off_policy import MAX_WEIGHT, Value, doubly_robust, effective_size, importance, ips, snips
from agent.snapshot import Snapshot
from agent.types import Array


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """What a policy would have earned.

    Parameters
    ----------
    policy
        ``snapshot 3``, ``logged`` (what was done) or ``always MODEL`` (where that could be chosen; else what was done).
    ips, snips, dr
        Quality by inverse propensity scores, self-normalised ones, and doubly robust, see `agent.evaluation.off_policy`.
    cost
        Expected USD a request.
    effective
        How many decisions the weighed ones are worth.
    clipped
        Decisions whose weight was cut: what is missing there pulls IPS down, and leaves DR to the estimates.
    """

    policy: str
    ips: Value
    snips: Value
    dr: Value
    cost: float
    effective: float
    clipped: int


@dataclass(frozen=True, slots=True)
class PolicyValues:
    """Policies side by side.

    Parameters
    ----------
    since, upto
        Positions in the log between which was read.
    fresh
        Decisions of which nothing was said before the latest position of a snapshot that is judged.
    trained_on
        Earlier ones: a snapshot that was trained on them says of each what it said with its scores hidden.
    excluded
        reason -> decisions that are not among these.
    policies
        Of every policy, on the same decisions.
    """

    since: int
    upto: int
    fresh: int
    trained_on: int
    excluded: Mapping[str, int]
    policies: tuple[PolicyValue, ...]

    @property
    def decisions(self) -> int:
        """How many decisions the policies are judged on."""
        return self.fresh + self.trained_on

    def as_json(self) -> dict[str, Any]:
        """With 95 % intervals; null where nothing is known."""
        return {
            "since": self.since,
            "upto": self.upto,
            "decisions": self.decisions,
            "fresh": self.fresh,
            "trained_on": self.trained_on,
            "excluded": dict(self.excluded),
            "policies": [
                {"policy": w.policy}
                | {name: _value(getattr(w, name)) for name in ("ips", "snips", "dr")}
                | {"cost": w.cost, "effective": w.effective, "clipped": w.clipped}
                for w in self.policies
            ],
        }


def predict_one(
    found: LoggedDecisions, judged: Sequence[Snapshot], always: Sequence[str], *, since: int, upto: int
) -> PolicyValues:
    """The same on decisions that have been read."""
    fresh = found.first > max(s.position for s in judged)
    policies: list[PolicyValue] = []
    offered = [m for m, could in zip(found.models, found.eligible.T, strict=True) if could.any()]
    for model in always:
        if len(found) and model not in offered:
            hint = did_you_mean(model, offered)
            raise InvalidInput(f"--always: no decision could have chosen {model!r}{hint}", param="always")
    if len(found):
        policies = [
            _policy_value(f"snapshot {s.version}", found.greedy(found.expected(Estimator(s))), found) for s in judged
        ]
        policies += [_policy_value("logged", found.propensity, found)]
        policies += [_policy_value(f"always {model}", _always(model, found), found) for model in always]
    return PolicyValues(since, upto, int(fresh.sum()), int((~fresh).sum()), found.excluded, tuple(policies))


def _always(model: str, found: LoggedDecisions) -> Array:
    """(n, m) choice probabilities: ``model`` wherever it was eligible, else what was done."""
    j = found.models.index(model)
    sole = np.zeros(len(found.models))
    sole[j] = 1.0
    policy: Array = np.where(found.eligible[:, [j]], sole, found.propensity)
    return policy


def _policy_value(name: str, policy: Array, found: LoggedDecisions) -> PolicyValue:
    log = found.log
    taken = policy[np.arange(len(log)), log.chosen]
    return PolicyValue(
        policy=name,
        ips=ips(policy, log),
        snips=snips(policy, log),
        dr=doubly_robust(policy, found.quality, log),
        cost=float((policy * found.cost).sum(axis=1).mean()),
        effective=effective_size(importance(policy, log) * found.score_weight),
        clipped=int((taken / log.propensity > MAX_WEIGHT).sum()),
    )


def _value(found: Value) -> dict[str, Any]:
    low, high = found.interval(0.95)
    known = np.isfinite(found.stderr)
    return {
        "mean": found.mean if known else None,
        "stderr": found.stderr if known else None,
        "low": low if known else None,
        "high": high if known else None,
    }
