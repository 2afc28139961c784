"""What the ledger reports on sources and raters."""

from __future__ import annotations

from dataclasses import dataclass

from agent.feedback.calibration import Kind


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A source's regression ``y = bias + slope * x``; ``noise`` beside a clean evaluation's, ``weight`` of its ratings."""

    source: str
    kind: Kind
    n_ratings: int
    bias: float
    slope: float
    noise: float
    weight: float


@dataclass(frozen=True, slots=True)
class ModelOffset:
    """How far above its other scores a judge scores the answers of a ``model``, by so many of them (``weight``) whose quality
    other sources tell; shrunken to 0."""

    model: str
    weight: float
    offset: float


@dataclass(frozen=True, slots=True)
class RaterReport:
    """A rater's probability of honesty (``weight``), and ``offset`` of their scores from the source's regression.

    ``models``: of a judge, its offsets by model, the largest first.
    """

    source: str
    rater: str
    n_ratings: int
    weight: float
    offset: float
    models: tuple[ModelOffset, ...] = ()
