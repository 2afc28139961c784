"""Measures of a trace: quality, regret, the time to follow a change, and quality and spend compared along cost settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.types import Array
from jobs.evaluate.report import frontier
from jobs.replay.harness import Trace
from jobs.replay.scenario import Change, Scenario

AFTER = slice(300, 1300)
"""Steps after a change whose quality is compared with the reference run's."""

WINDOW = 100
"""Steps over which a model's share of the traffic is averaged."""

LEAST_MOVE = 0.05
"""Difference of a model's share to the reference run's below which there is no change to follow."""


GAIN_STEPS = (200, 500)
"""Steps after a join in which its gain is measured."""

LEAST_GAIN = 0.001
"""Gain a step below which a model that joins counts as one that brings nothing."""


def last_third(trace: Trace) -> float:
    """Mean quality of the last third of the stream."""
    return float(trace.quality[-(len(trace.quality) // 3) or None :].mean())


def regret(trace: Trace) -> Array:
    """(n,) cumulative regret against the best model of the pool on each prompt."""
    return np.asarray(np.cumsum(trace.best - trace.quality))


def loss(trace: Trace, reference: Trace, scenario: Scenario) -> float | None:
    """Mean quality of the reference run less this one's: after the first join or degrade, or over all steps without one;
    where the weak model joins, over all steps from then on.

    None where the stream ends too soon after the change.
    """
    rows = slice(None)
    if scenario.unannounced:
        first = min(change.step for change in scenario.unannounced)
        rows = slice(first + AFTER.start, first + AFTER.stop) if scenario.weak is None else slice(first, None)
    difference = reference.quality[rows] - trace.quality[rows]
    return float(difference.mean()) if len(difference) else None


def moving(values: Array, window: int) -> Array:
    """(n,) mean of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def follow_steps(trace: Trace, reference: Trace, change: Change, models: Sequence[str]) -> int | None:
    """Steps after a change until the model's share of the traffic has moved half of the way to the reference run's.

    That is when a joined model counts as adopted, a degraded one as abandoned. None where it never happens.
    """
    column = models.index(change.model)
    ours, theirs = (moving((t.model == column).astype(float), WINDOW) for t in (trace, reference))
    before = ours[change.step - 1] if change.step else 0.0
    way = theirs - before
    gone = (np.sign(way) * (ours - before) >= np.abs(way) / 2) & (np.abs(way) >= LEAST_MOVE)
    steps = np.flatnonzero(gone[change.step + WINDOW - 1 :])
    return int(steps[0]) + WINDOW if len(steps) else None


def gain(trace: Trace, unjoined: Trace, change: Change, steps: int) -> float:
    """Quality over so many steps after a join, summed, above that of the run in which no model joins."""
    rows = slice(change.step, change.step + steps)
    return float((trace.quality[rows] - unjoined.quality[rows]).sum())


def traffic_after(trace: Trace, change: Change, models: Sequence[str], steps: int = 300) -> float | None:
    """Share of the requests that a joined model gets from so many steps after its join on; None where there are none."""
    chosen = trace.model[change.step + steps :]
    return float((chosen == models.index(change.model)).mean()) if len(chosen) else None


def join_figures(
    traces: Sequence[Trace],
    references: Sequence[Trace],
    unjoined: Sequence[Trace],
    joins: Sequence[Change],
    models: Sequence[str],
) -> dict[str, Any]:
    """What became of models that joined, over all seeds; each figure a number, or None where there is none.

    ``gain_share_200`` and ``gain_share_500``: the gain of the reference run, in which the models were in the pool from the
    start, over the run in which they never join, in so many steps after the join; and of that the share that this run
    realised. Both gains are summed over seeds and joins; None where the reference gains less than `LEAST_GAIN` a step.
    ``adoption_steps``: mean of `follow_steps`, over those that were adopted. ``traffic_share_300``: mean of `traffic_after`.
    ``seeds`` holds the same of each model and seed: summed gains, and the rest.
    """
    out: dict[str, Any] = {"seeds": {}}
    for change in joins:
        out["seeds"][change.model] = [
            {
                "adoption_steps": follow_steps(t, r, change, models),
                "traffic_share_300": traffic_after(t, change, models),
                **{f"gain_{n}": gain(t, u, change, n) for n in GAIN_STEPS},
                **{f"reference_gain_{n}": gain(r, u, change, n) for n in GAIN_STEPS},
            }
            for t, r, u in zip(traces, references, unjoined, strict=True)
        ]
    rows = [row for found in out["seeds"].values() for row in found]
    for n in GAIN_STEPS:
        ours, whole = (sum(row[f"{which}_{n}"] for row in rows) for which in ("gain", "reference_gain"))
        out[f"gain_share_{n}"] = ours / whole if whole >= LEAST_GAIN * n * len(rows) else None
    for key in ("adoption_steps", "traffic_share_300"):
        known = [row[key] for row in rows if row[key] is not None]
        out[key] = float(np.mean(known)) if known else None
    return out


def drift_delay(trace: Trace, change: Change, models: Sequence[str]) -> int | None:
    """Number of the model's own scores, of choices since the change, until the drift was detected; None where it never was."""
    detected = [at for at, e in trace.events if e.kind == "drift" and e.detail == change.model and at >= change.step]
    if not detected:
        return None
    learned, chosen = trace.learned[:, 0], trace.learned[:, 1]
    mine = (chosen >= change.step) & (learned <= detected[0]) & (trace.model[chosen] == models.index(change.model))
    return int(mine.sum())


def false_alarms(trace: Trace, degrades: Sequence[Change]) -> int:
    """Drifts that were reported of a model that had not degraded."""
    return sum(
        event.kind == "drift" and not any(event.detail == c.model and at >= c.step for c in degrades)
        for at, event in trace.events
    )


def spend_curve(runs: Mapping[float, Sequence[Trace]]) -> Array:
    """(k, 2) mean USD and mean quality at each cost setting."""
    return np.array(
        [[np.mean([np.nanmean(t.cost) for t in r]), np.mean([t.quality.mean() for t in r])] for r in runs.values()]
    )


def compare_spend(ours: Array, theirs: Array) -> dict[str, list[dict[str, Any]]]:
    """Quality of two spend curves at equal spend, and spend at equal quality, at every point of either.

    Between two points of a curve, requests can be split between their settings; so a curve is interpolated linearly between
    the points that no other beats. None where a curve does not reach.
    """
    one, other = frontier(ours), frontier(theirs)
    return {
        "at_equal_spend": [
            {"cost": float(c), "ours": _quality_at(one, c), "theirs": _quality_at(other, c)}
            for c in sorted({*one[:, 0], *other[:, 0]})
        ],
        "at_equal_quality": [
            {"quality": float(q), "ours": _cost_at(one, q), "theirs": _cost_at(other, q)}
            for q in sorted({*one[:, 1], *other[:, 1]})
        ],
    }


def _quality_at(points: Array, cost: float) -> float | None:
    return None if cost < points[0, 0] else float(np.interp(cost, points[:, 0], points[:, 1]))


def _cost_at(points: Array, quality: float) -> float | None:
    return None if quality > points[-1, 1] else float(np.interp(quality, points[:, 1], points[:, 0]))
