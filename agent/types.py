"""Values that pass between the packages, all frozen.

Qualities are in [0, 1]; costs are USD per request; prices are USD per million tokens; embeddings are unit vectors of
float32. A *decision* holds everything that was known when a model was chosen, its exact propensity included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Of any shape; the docstrings give it."""

Vector = NDArray[np.float32]
Source = Literal["user", "judge", "implicit", "evaluation"]
"""Who scores an answer; of an ``evaluation`` the score is what the answer is worth, by a reference answer say."""

TYPICAL_OUTPUT_TOKENS = 350
"""Length that is assumed of an answer, where neither a model's card nor outcomes of its calls say more."""

UPPER = 0.9
"""The quantile of costs, lengths and times that is called upper."""

UPPER_RATIO = 2.2
"""Upper quantile over mean where nothing is known of a model: that of a log-normal with a deviation of about 1."""

UNKNOWN_TASK = -1
"""The task id of a prompt that lies far from every task."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model of the pool.

    Parameters
    ----------
    name
        As clients write it, ``vendor/model``.
    family
        Models of one family are expected to be of similar quality.
    price_input, price_output
        USD per million tokens.
    context
        Longest request plus answer, in tokens.
    capabilities
        Of ``tools``, ``vision``, ``json``.
    priors
        Published benchmark figures, rescaled to 0..1, by axis (``math``, ``code``, ``knowledge``, ``reasoning``,
        ``instruction``, ``multilingual``, ``creative``). May be empty.
    available
        Whether a call can be made now (its key is set, its provider is up). `route` ranks the others only on demand.
    output_tokens
        Expected length of an answer in tokens, thinking included; None for `TYPICAL_OUTPUT_TOKENS`.
    resting
        Why it is chosen for no request but those that name it; None where it may be.
    replaces
        The model whose estimates it inherits until a snapshot knows it, see `agent.online.inheritance`; None for none.
    on_trial
        Whether it has joined, and it is open yet whether the pool needs it: trying it may pay for long.
    """

    name: str
    family: str = ""
    price_input: float = 0.0
    price_output: float = 0.0
    context: int = 8192
    capabilities: frozenset[str] = frozenset()
    priors: Mapping[str, float] = field(default_factory=dict)
    available: bool = True
    output_tokens: int | None = None
    resting: str | None = None
    replaces: str | None = None
    on_trial: bool = False


@dataclass(frozen=True, slots=True)
class CallForecast:
    """What the outcomes of a model's calls say of the next one, see `agent.online.outcomes`.

    Parameters
    ----------
    output_tokens, output_tokens_upper
        Expected length of the answer, and what nine of ten answers stay within.
    cost_ratio, cost_ratio_upper
        True cost over the snapshot's (`Candidate.snapshot_cost`): of all calls together, and what nine of ten stay within.
    cost_weight
        In [0, 1): how far these two replace what the snapshot says of itself.
    latency_ms, latency_ms_upper
        Likewise of the time to the end of the answer; None where none is known, the upper quantile until ten are.
    failure_rate
        Share of the calls that failed, timed out or were cancelled; None without calls.
    n_calls
        Number of the calls that this rests on.
    input_ratio
        Length of its prompts as the provider counts them, over the encoder's count.
    """

    output_tokens: float
    output_tokens_upper: float
    cost_ratio: float = 1.0
    cost_ratio_upper: float = 1.0
    cost_weight: float = 0.0
    latency_ms: float | None = None
    latency_ms_upper: float | None = None
    failure_rate: float | None = None
    n_calls: int = 0
    input_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, text only; ``role`` is system, developer, user, assistant or tool."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What a client asks for, as far as the choice of a model depends on it.

    Parameters
    ----------
    turns
        The conversation, oldest first; the last user turn counts most.
    requires
        Capabilities that a candidate must have.
    output_tokens
        Expected (or at most allowed) length of the answer in tokens, for cost; None where unknown.
    cost_quality_tradeoff
        0 = cheapest, 1 = best quality, whatever it costs.
    max_cost
        USD that nine of ten such calls to a candidate may not exceed (`Candidate.cost_upper`); None for no limit.
    deadline_s
        Seconds that nine of ten calls to a candidate may not take longer than (`CallForecast.latency_ms_upper`); None for no
        limit. Only the choice depends on it; the call is not cut off.
    candidates
        Names to choose among; None for the whole pool.
    explore
        False: always the model of highest utility (propensity 1).
    include_unavailable
        True: also rank and choose models that cannot be called now (``/v1/route`` only).
    affordable
        model -> most utility that exploring it as a newcomer may be expected to cost, below 0 not at all, by
        `agent.choice.limiter`; None for no limit.
    """

    turns: tuple[Turn, ...]
    requires: frozenset[str] = frozenset()
    output_tokens: int | None = None
    cost_quality_tradeoff: float = 0.8
    max_cost: float | None = None
    candidates: tuple[str, ...] | None = None
    explore: bool = True
    include_unavailable: bool = False
    affordable: Mapping[str, float] | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded prompt.

    Parameters
    ----------
    embedding
        (d,) unit vector.
    features
        (f,) plain features of the request, see `agent.encoding.features.FEATURES`.
    tokens
        Length of the whole conversation in tokens.
    coverage
        Share of those tokens that the encoder read, in (0, 1]; of long turns it reads windows only.
    """

    embedding: Vector
    features: Vector
    tokens: int
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class LoggedAction:
    """A model that was eligible in a decision, as off-policy evaluation needs it.

    Parameters
    ----------
    model
        Which one.
    propensity
        Probability with which it was to be chosen.
    quality, cost_penalty, cost
        As `Candidate` has them; NaN where not known.
    """

    model: str
    propensity: float
    quality: float
    cost_penalty: float = 0.0
    cost: float = math.nan


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an estimated quality, to which it adds ``weight * estimate``; the weight is NaN where it was not logged."""

    estimate: float
    weight: float


SNAPSHOT_PARTS = ("task", "head", "neighbours")
"""Parts of the estimated quality of a model that the snapshot knows, see `Candidate`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, estimated for one prompt.

    Parameters
    ----------
    quality, stderr
        Estimate in [0, 1] and its standard error.
    cost
        Expected USD of this request.
    utility
        ``quality + shrinkage - cost_penalty - caution``.
    propensity
        Exact probability with which this model was to be chosen; 0 where excluded.
    parts
        What ``quality`` is the sum of. Of a model that the snapshot knows: ``task``, ``head`` and ``neighbours``; of another:
        ``inherited`` (the estimate of the model that it replaces) or ``prior`` (published figures), and ``snapshot_mean`` (over
        the models that the snapshot knows). Then ``online``
        (correction since the snapshot) and, where the sum left [0, 1], ``clipping``.
    excluded
        Why the model could not be chosen ("context of 2,048 tokens is shorter than ..."); None where it could.
    shrinkage
        By how much the choice draws the estimate toward the model's mean over all prompts, see `agent.choice.utility`.
    cost_penalty
        Lambda times cost, in units of quality.
    caution
        By how much little knowledge of the model lowers its utility, see `agent.choice.newcomers`; at least 0.
    cost_upper
        USD that nine of ten such requests stay within; 0 where it was not logged.
    snapshot_cost
        USD by the snapshot's own cost model, from evaluations; 0 where it knows none.
    """

    model: str
    quality: float
    stderr: float
    cost: float
    utility: float
    propensity: float
    parts: Mapping[str, Part] = field(default_factory=dict)
    excluded: str | None = None
    shrinkage: float = 0.0
    cost_penalty: float = 0.0
    caution: float = 0.0
    cost_upper: float = 0.0
    snapshot_cost: float = 0.0

    @property
    def predicted(self) -> float:
        """The snapshot's own estimate: no published figures, nothing that was learned since; NaN where it is not known."""
        if "snapshot_mean" in self.parts:
            return self.parts["snapshot_mean"].estimate
        parts = [self.parts[name] for name in SNAPSHOT_PARTS if name in self.parts]
        return min(max(sum(part.weight * part.estimate for part in parts), 0.0), 1.0) if parts else math.nan

    @property
    def expected(self) -> float:
        """The estimate, where ratings may be calibrated by it; NaN of a model that the snapshot does not know, whose ratings
        would all seem too high or too low alike, since its estimate is mostly a guess."""
        return math.nan if "snapshot_mean" in self.parts else self.quality

    @property
    def action(self) -> LoggedAction:
        """What off-policy evaluation needs of it."""
        return LoggedAction(self.model, self.propensity, self.quality, self.cost_penalty, self.cost)


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """The task that a prompt most probably belongs to; ``id`` is `UNKNOWN_TASK` far from every task."""

    id: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class SnapshotEstimate:
    """What a snapshot estimates for a prompt, without what was learned since.

    Parameters
    ----------
    snapshot
        Its version.
    task
        Id of the task that the prompt most probably belongs to.
    tasks
        task -> probability of those that it may belong to; none far from every task.
    quality
        model -> estimate in [0, 1].
    neighbourhood
        The prompt's, as the decision found it, see `agent.index.prompts`; None where it found none, or it is not known.
    """

    snapshot: int
    task: int
    tasks: Mapping[int, float]
    quality: Mapping[str, float]
    neighbourhood: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A remembered prompt near this one: its ``similarity`` (`agent.encoding.similarity`), and each model's score on it."""

    prompt_id: str
    similarity: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrialChoice:
    """What a trial (see `agent.trial`) needs to know of a decision on which its two routers differ, and which its coin may
    have decided.

    Parameters
    ----------
    trial
        Its id.
    champion, challenger
        Models that the serving router and the other one would have chosen without exploring.
    champion_utility, challenger_utility
        Their utilities (quality less cost penalty), each the mean of both routers' estimates.
    expected_regret
        Utility that the coin was expected to cost beside the serving router's own choice, by the same estimates; at least 0.
    """

    trial: int
    champion: str
    challenger: str
    champion_utility: float
    challenger_utility: float
    expected_regret: float

    def side(self, model: str) -> str:
        """Whose choice ``model`` is: ``champion``, ``challenger``, or ``other``."""
        return "champion" if model == self.champion else "challenger" if model == self.challenger else "other"


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice of a model, and what it rests on.

    ``candidates`` are ranked by utility, the eligible before the excluded. ``snapshot`` and ``position`` (of the last
    row of the feedback log that was learned) name the state that made it. ``trial`` is None where no trial had a part in it.
    ``tasks`` and ``neighbourhood`` are those of `SnapshotEstimate`; None where they are not known.
    """

    model: str
    candidates: tuple[Candidate, ...]
    task: TaskAssignment
    evidence: tuple[Evidence, ...]
    snapshot: int
    position: int
    encoded: Encoded
    explored: bool
    why: str
    trial: TrialChoice | None = None
    tasks: Mapping[int, float] | None = None
    neighbourhood: int | None = None

    @property
    def estimate(self) -> SnapshotEstimate | None:
        """What its snapshot estimated; None where that is not known."""
        return snapshot_estimate(self.snapshot, self.task.id, self.tasks, self.candidates, self.neighbourhood)

    @property
    def chosen(self) -> Candidate:
        """The candidate that was chosen."""
        return next(c for c in self.candidates if c.model == self.model)

    @property
    def exploration_regret(self) -> float:
        """Utility that exploring was expected to cost, by the propensities, caution apart; at least 0."""
        return sum(c.propensity * self.price(c) for c in self.candidates if c.excluded is None)

    def price(self, candidate: Candidate) -> float:
        """Utility that choosing an eligible ``candidate`` in place of the leader was expected to cost, caution apart."""
        lead = self.candidates[0]
        return max(lead.utility + lead.caution - candidate.utility - candidate.caution, 0.0)


def snapshot_estimate(
    snapshot: int,
    task: int,
    tasks: Mapping[int, float] | None,
    candidates: Iterable[Candidate],
    neighbourhood: int | None,
) -> SnapshotEstimate | None:
    """The estimate behind a decision's ``candidates``; None where ``tasks`` were not logged."""
    if tasks is None:
        return None
    return SnapshotEstimate(snapshot, task, tasks, {c.model: c.predicted for c in candidates}, neighbourhood)
