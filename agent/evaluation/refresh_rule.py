"""When an early refresh is due: by what came in since the last one beside what was known. A server and a replay share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from agent.types import Vector

RECENT = 1000
"""Outliers are counted among this many of the latest prompts."""


@dataclass(frozen=True, slots=True)
class RefreshRuleConfig:
    """Thresholds.

    Parameters
    ----------
    growth, least
        A refresh is due at ``growth`` times as many new rows of feedback as there were scored prompts to learn from before,
        and at no fewer than ``least``. Newcomers and outliers that a refresh has read without effect must grow as much.
    outliers, outlier_share
        A refresh is due at this many clustered prompts far from every task, if they are at least this share of the
        latest decisions.
    min_similarity, min_neighbours
        An outlier is clustered where at least ``min_neighbours`` others have this cosine with it.
    drift_feedback
        A refresh is due where a model that drifted has this much feedback from after the change; and where a model that
        the champion does not know has this much.
    """

    growth: float = 0.5
    least: int = 16
    outliers: int = 30
    outlier_share: float = 0.05
    min_similarity: float = 0.5
    min_neighbours: int = 5
    drift_feedback: int = 40


@dataclass(frozen=True, slots=True)
class RefreshSignals:
    """What has come in since the last refresh, whether that was promoted or not.

    Parameters
    ----------
    known
        Scored prompts that the last refresh, or the champion where it knows more, was trained on.
    feedback
        Rows.
    decisions
        Prompts routed (by a live server: routed and scored), at most the latest `RECENT`.
    outliers
        Embeddings of those of them that lie far from every task.
    drifted
        Models that changed silently, each with its feedback from after the change.
    newcomers
        Models that the champion does not know, each with its feedback.
    read_outliers, read_newcomers
        Outliers, and newcomers' feedback, that came in since the champion was trained, but before the last refresh.
    """

    known: int
    feedback: int
    decisions: int = 0
    outliers: tuple[Vector, ...] = ()
    drifted: Mapping[str, int] = field(default_factory=dict)
    newcomers: Mapping[str, int] = field(default_factory=dict)
    read_outliers: int = 0
    read_newcomers: Mapping[str, int] = field(default_factory=dict)


def refresh_reason(signals: RefreshSignals, config: RefreshRuleConfig = RefreshRuleConfig()) -> str | None:
    """Why a refresh is due now, for people; None where it is not.

    Examples
    --------
    >>> refresh_reason(RefreshSignals(known=60, feedback=29))
    >>> refresh_reason(RefreshSignals(known=60, feedback=30))
    '30 new feedback rows, beside 60 scored prompts known before'
    >>> refresh_reason(RefreshSignals(known=9000, feedback=60, drifted={"small": 41}))
    'small has changed, and 41 scores tell how'
    """
    if signals.feedback >= max(config.growth * signals.known, config.least):
        return f"{signals.feedback:,} new feedback rows, beside {signals.known:,} scored prompts known before"
    for model, scores in signals.drifted.items():
        if scores >= config.drift_feedback:
            return f"{model} has changed, and {scores} scores tell how"
    for model, scores in signals.newcomers.items():
        if scores >= max(config.drift_feedback, config.growth * signals.read_newcomers.get(model, 0)):
            return f"{model} is new, and {scores} scores tell what it can do"
    clustered = _clustered(signals.outliers, config)
    if clustered >= max(
        config.outliers, config.outlier_share * signals.decisions, config.growth * signals.read_outliers
    ):
        return f"{clustered} of the latest {signals.decisions} prompts lie close together, far from every task"
    return None


def _clustered(outliers: tuple[Vector, ...], config: RefreshRuleConfig) -> int:
    """Number of outliers that lie close to others."""
    if len(outliers) < config.outliers:
        return 0
    embeddings = np.stack(outliers)
    near = (embeddings @ embeddings.T >= config.min_similarity).sum(axis=1) - 1  # each is near itself
    return int((near >= config.min_neighbours).sum())
