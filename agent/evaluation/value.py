"""Policies side by side: what each would have earned on the same logged decisions, with confidence intervals."""

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
        ``snapshot 3``, ``logged`` (the logging policy) or ``always MODEL`` (where eligible; else the logging policy).
    ips, snips, dr
        Quality by inverse propensity scores, self-normalised ones, and doubly robust, see `agent.evaluation.off_policy`.
    cost
        Expected USD a request.
    effective
        Number of equally weighted decisions that the importance-weighted ones are worth.
    clipped
        Decisions whose importance weight was clipped; there IPS is too low, and DR rests on the estimates.
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
        Decisions without feedback before the latest position of the snapshots.
    trained_on
        Earlier ones; a snapshot's estimates of those that it was trained on are out-of-fold.
    excluded
        reason -> decisions that are not among these.
    policies
        Their values.
    """

    since: int
    upto: int
    fresh: int
    trained_on: int
    excluded: Mapping[str, int]
    policies: tuple[PolicyValue, ...]

    @property
    def decisions(self) -> int:
        """Number of decisions that the values rest on."""
        return self.fresh + self.trained_on

    def as_json(self) -> dict[str, Any]:
        """With 95 % intervals; null where a value is not known."""
        return {
            "since": self.since,
            "upto": self.upto,
            "decisions": self.decisions,
            "fresh": self.fresh,
            "trained_on": self.trained_on,
            "excluded": dict(self.excluded),
            "policies": [
                {"policy": v.policy}
                | {name: _value(getattr(v, name)) for name in ("ips", "snips", "dr")}
                | {"cost": v.cost, "effective": v.effective, "clipped": v.clipped}
                for v in self.policies
            ],
        }


def policy_values(
    decisions: LoggedDecisions, snapshots: Sequence[Snapshot], always: Sequence[str], *, since: int, upto: int
) -> PolicyValues:
    """Values of the snapshots' greedy policies, the logging policy, and one policy for each model of ``always``.

    Raises
    ------
    InvalidInput
        Where a model of ``always`` was never eligible.
    """
    eligible = [m for m, could in zip(decisions.models, decisions.eligible.T, strict=True) if could.any()]
    for model in always:
        if len(decisions) and model not in eligible:
            hint = did_you_mean(model, eligible)
            raise InvalidInput(f"--always: no decision could have chosen {model!r}{hint}", param="always")
    policies: dict[str, Array] = {}
    if len(decisions):
        policies = {f"snapshot {s.version}": decisions.greedy(decisions.estimates(Estimator(s))) for s in snapshots}
        policies["logged"] = decisions.propensity
        policies |= {f"always {model}": _always(model, decisions) for model in always}
    fresh = decisions.first_position > max(s.position for s in snapshots)
    return PolicyValues(
        since=since,
        upto=upto,
        fresh=int(fresh.sum()),
        trained_on=int((~fresh).sum()),
        excluded=decisions.excluded,
        policies=tuple(_policy_value(name, policy, decisions) for name, policy in policies.items()),
    )


def _always(model: str, decisions: LoggedDecisions) -> Array:
    """(n, m) choice probabilities: ``model`` wherever it was eligible, else the logging policy."""
    j = decisions.models.index(model)
    policy: Array = np.where(decisions.eligible[:, [j]], np.eye(len(decisions.models))[j], decisions.propensity)
    return policy


def _policy_value(name: str, policy: Array, decisions: LoggedDecisions) -> PolicyValue:
    return PolicyValue(
        policy=name,
        ips=ips(policy, decisions),
        snips=snips(policy, decisions),
        dr=doubly_robust(policy, decisions.quality, decisions),
        cost=float((policy * decisions.cost).sum(axis=1).mean()),
        effective=effective_size(importance(policy, decisions) * decisions.score_weight),
        clipped=int((importance(policy, decisions, np.inf) > MAX_WEIGHT).sum()),
    )


def _value(value: Value) -> dict[str, Any]:
    low, high = value.interval(0.95)
    known = np.isfinite(value.stderr)
    return {
        "mean": value.mean if known else None,
        "stderr": value.stderr if known else None,
        "low": low if known else None,
        "high": high if known else None,
    }
