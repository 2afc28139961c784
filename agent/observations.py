"""Rows of the logs as they are learned, and what is made of feedback: calibrated scores, and silent changes of models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent.types import UNKNOWN_TASK, Encoded, LoggedAction, SnapshotEstimate, Source, TrialChoice


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """One row of the outcome log: how the call that followed a decision ended; None where a figure is not known.

    Parameters
    ----------
    seq
        Position in the log.
    model, task
        Of the decision; the task is the most probable one.
    status
        Any but ``ok`` is a failure, of which nothing but that is learned.
    output_tokens
        Thinking included.
    cost_usd, snapshot_cost
        True cost, and what the deciding snapshot's cost model expected.
    input_tokens, encoder_tokens
        Length of the prompt as the provider counted it, and as the encoder did.
    """

    seq: int
    model: str
    task: int
    status: Literal["ok", "error", "timeout", "cancelled"]
    output_tokens: float | None = None
    latency_ms: float | None = None
    cost_usd: float | None = None
    snapshot_cost: float | None = None
    input_tokens: float | None = None
    encoder_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of the feedback log, joined with the decision that it is about.

    Parameters
    ----------
    seq
        Position in the log; every replica applies observations in this order, each once.
    decision_id, prompt_id
        Of the decision.
    model
        The model whose answer was scored.
    score
        In [0, 1]. Of a comparison: 1 where the answering model is preferred, 0 where ``other`` is, 0.5 for a tie.
    source, rater
        Who gave the score; ``rater`` may be empty.
    encoded
        The prompt as it was encoded when the decision was made.
    propensity
        Of the chosen model, in (0, 1]; 1 where the client named the model.
    revises
        The earlier score of the same (decision, source, rater, other), which this one replaces; else None.
    expected
        Quality of ``model`` as the decision estimated it, in [0, 1]; NaN where it is not known.
    task
        Id of the decision's task.
    other
        The model that ``model`` was compared with; None where ``score`` is of the answer alone.
    expected_other
        The decision's estimate for ``other``; NaN where there is none.
    key
        Name of the API key that posted it; "" without one.
    actions
        The eligible models, the chosen one among them; () where not known.
    encoder
        Fingerprint of the encoder that made ``encoded``; "" where it is not known.
    trial
        The decision's; None where no trial had a part in it.
    estimate
        What the decision's snapshot estimated; None where it is not known.
    """

    seq: int
    decision_id: str
    prompt_id: str
    model: str
    score: float
    source: Source
    rater: str
    encoded: Encoded
    propensity: float = 1.0
    revises: float | None = None
    expected: float = math.nan
    task: int = UNKNOWN_TASK
    other: str | None = None
    expected_other: float = math.nan
    key: str = ""
    actions: tuple[LoggedAction, ...] = ()
    encoder: str = ""
    trial: TrialChoice | None = None
    estimate: SnapshotEstimate | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row of the feedback log that nothing is learned from: its position in the log, and why."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class CalibratedScore:
    """What the ledger makes of an observation.

    Parameters
    ----------
    value
        Estimate of the answer's quality (of a comparison: of its quality less the other's), unbiased rather than clipped.
    weight
        In [0, 1], beside a clean evaluation.
    """

    value: float
    weight: float


DriftKind = Literal["quality", "tokens", "latency", "failures"]
CALL_KINDS: tuple[DriftKind, ...] = ("tokens", "latency", "failures")
"""Kinds of drifts that the outcome log shows; `quality` is what the feedback log shows."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A silent change of a model: of its quality, of the length of its answers, of the time they take, or of its failures.

    Parameters
    ----------
    model
        Which one.
    position
        Position of the row that revealed it: of the feedback log, of other kinds than ``quality`` of the outcome log.
    since
        Position of the first row after the change, as estimated.
    shift
        Change of the mean: of its scores beside what was expected of them, of the natural logarithm of ``tokens`` or
        ``latency``, of the share of its calls that fail.
    detector
        ``scan`` or ``adwin``, see `agent.online.drift`; ``page-hinkley``, see `agent.online.call_drift`.
    kind
        What changed.
    """

    model: str
    position: int
    since: int
    shift: float
    detector: str
    kind: DriftKind = "quality"


class CallDrift(NamedTuple):
    """A drift of a model's calls, and since when the stream was known to be without one when it was found."""

    drift: Drift
    last: int
