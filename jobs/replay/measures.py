"""What a trace amounts to: quality, regret, and how long a router takes to follow a change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.types import Array
from jobs.replay.harness import Trace
from jobs.replay.scenario import Change, Scenario

AFTER = slice(300, 1300)
"""Steps after an event whose quality is compared with the reference run's."""

WINDOW = 100
"""Steps over which a model's share of the traffic is taken."""


LEAST_MOVE = 0.05
"""A model whose share hardly differs from the reference run's has nothing to be followed in."""


def last_third(trace: Trace) -> float:
    """Mean quality of the last third of the stream."""
    return float(trace.quality[-(len(trace.quality) // 3) or None :].mean())


def regret(trace: Trace) -> Array:
    """(n,) cumulative regret against the best model of the pool on each prompt."""
    out: Array = np.cumsum(trace.best - trace.quality)
    return out


def loss(trace: Trace, reference: Trace, scenario: Scenario) -> float | None:
    """Mean quality that the reference run has above this one: after the event where there is one, else over all steps.

    None where the stream ends too soon after the event.
    """
    rows = slice(None)
    if scenario.events:
        first = min(change.step for change in scenario.events)
        rows = slice(first + AFTER.start, first + AFTER.stop)
    difference = reference.quality[rows] - trace.quality[rows]
    return float(difference.mean()) if len(difference) else None


def moving(values: Array, window: int) -> Array:
    """(n,) mean of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    out: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return out


def follow_steps(trace: Trace, reference: Trace, change: Change, models: Sequence[str]) -> int | None:
    """Steps after a change until the model's traffic has gone half of the way to what it is in the reference run.

    A joined model counts as adopted then, a degraded one as abandoned. None where that never happens.
    """
    column = models.index(change.model)
    ours, theirs = (moving((t.model == column).astype(float), WINDOW) for t in (trace, reference))
    before = ours[change.step - 1] if change.step else 0.0
    way = theirs - before
    gone = (np.sign(way) * (ours - before) >= np.abs(way) / 2) & (np.abs(way) >= LEAST_MOVE)
    steps = np.flatnonzero(gone[change.step + WINDOW - 1 :])
    return int(steps[0]) + WINDOW if len(steps) else None


def drift_delay(trace: Trace, change: Change, models: Sequence[str]) -> int | None:
    """The model's own feedbacks, on choices made since the change, until the change was noticed; None where it never was."""
    noticed = [
        at for at, item in trace.news if item.kind == "drift" and item.what == change.model and at >= change.step
    ]
    if not noticed:
        return None
    at, about = trace.heard[:, 0], trace.heard[:, 1]
    mine = (about >= change.step) & (at <= noticed[0]) & (trace.model[about] == models.index(change.model))
    return int(mine.sum())
