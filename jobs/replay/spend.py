"""Quality at equal spend, and spend at equal quality, along two routers' curves of cost and quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.types import Array
from jobs.evaluate.report import frontier
from jobs.replay.harness import Trace


def curve(runs: Mapping[float, Sequence[Trace]]) -> Array:
    """(k, 2) mean USD and mean quality at each setting."""
    return np.array(
        [[np.mean([np.nanmean(t.cost) for t in r]), np.mean([t.quality.mean() for t in r])] for r in runs.values()]
    )


def compare(ours: Array, theirs: Array) -> dict[str, list[dict[str, Any]]]:
    """Our quality at each spend of theirs, and their quality at each of ours; likewise spend at equal quality.

    Between two points of a curve, requests can be split between their settings; so a curve is read linearly between
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
