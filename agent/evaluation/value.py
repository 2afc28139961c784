"""What policies would have earned on logged decisions, with confidence intervals."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.evaluation.logged import Choices
from agent.evaluation.off_policy import MAX_WEIGHT, Value, doubly_robust, effective_size, importance, ips, snips
from agent.snapshot import Snapshot
from agent.types import Array


@dataclass(frozen=True, slots=True)
class Worth:
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
class Valuation:
    """Policies side by side.

    Parameters
    ----------
    since, upto
        Positions in the log between which was read.
    fresh
        Decisions of which nothing was said before the latest position of a snapshot that is judged.
    trained_on
        Earlier ones: a snapshot that was trained on them says of each what it said with its scores hidden.
    left_out
        reason -> decisions that are not among these.
    worths
        Of every policy, on the same decisions.
    """

    since: int
    upto: int
    fresh: int
    trained_on: int
    left_out: Mapping[str, int]
    worths: tuple[Worth, ...]

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
            "left_out": dict(self.left_out),
            "policies": [
                {"policy": w.policy}
                | {name: _value(getattr(w, name)) for name in ("ips", "snips", "dr")}
                | {"cost": w.cost, "effective": w.effective, "clipped": w.clipped}
                for w in self.worths
            ],
        }


def appraise(found: Choices, judged: Sequence[Snapshot], always: Sequence[str], *, since: int, upto: int) -> Valuation:
    """The same on decisions that have been read."""
    fresh = found.first > max(s.position for s in judged)
    worths: list[Worth] = []
    offered = [m for m, could in zip(found.models, found.eligible.T, strict=True) if could.any()]
    for model in always:
        if len(found) and model not in offered:
            close = difflib.get_close_matches(model, offered, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidInput(f"--always: no decision could have chosen {model!r}{hint}", param="always")
    if len(found):
        worths = [_worth(f"snapshot {s.version}", found.greedy(found.expected(Estimator(s))), found) for s in judged]
        worths += [_worth("logged", found.propensity, found)]
        worths += [_worth(f"always {model}", _always(model, found), found) for model in always]
    return Valuation(since, upto, int(fresh.sum()), int((~fresh).sum()), found.left_out, tuple(worths))


def _always(model: str, found: Choices) -> Array:
    """(n, m) choice probabilities: ``model`` wherever it was eligible, else what was done."""
    j = found.models.index(model)
    sole = np.zeros(len(found.models))
    sole[j] = 1.0
    policy: Array = np.where(found.eligible[:, [j]], sole, found.propensity)
    return policy


def _worth(name: str, policy: Array, found: Choices) -> Worth:
    log = found.log
    taken = policy[np.arange(len(log)), log.chosen]
    return Worth(
        policy=name,
        ips=ips(policy, log),
        snips=snips(policy, log),
        dr=doubly_robust(policy, found.quality, log),
        cost=float((policy * found.cost).sum(axis=1).mean()),
        effective=effective_size(importance(policy, log) * found.trust),
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
