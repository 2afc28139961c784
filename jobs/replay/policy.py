"""The interface of a policy in a replay: built from a `Start`, it chooses a model for each prompt and learns from feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agent.examples import Examples
from agent.types import UNKNOWN_TASK, Array, Candidate, Encoded, ModelCard, SnapshotEstimate, Source, TrialChoice


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as a policy sees it; ``id`` is the one that the store would give it."""

    id: str
    text: str
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """The ``model`` that a policy chose for a prompt; the rest as in `agent.types.Decision`, for what a policy knows of it.

    ``explored``: None, ``expected`` (quality): NaN where the policy does not report it.
    """

    model: str
    explored: bool | None = None
    propensity: float = 1.0
    expected: float = float("nan")
    task: int = UNKNOWN_TASK
    candidates: tuple[Candidate, ...] = ()
    trial: TrialChoice | None = None
    estimate: SnapshotEstimate | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A ``score`` in 0..1 of the choice that was made at ``step``, with its source and rater."""

    step: int
    prompt: Prompt
    choice: PolicyChoice
    score: float
    source: Source
    rater: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A judge's ``score`` in 0..1 of a model's answer to a probe, and its USD; NaN where unknown."""

    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class Start:
    """What a policy may know before the first prompt.

    Parameters
    ----------
    seed
        Of the policy's own randomness.
    models
        The pool at the start.
    columns
        Every model of the data, in the order of the columns of ``scores``.
    cards
        By model, all of them.
    prompts, scores, costs
        n warm prompts; (n, m) what each model scored on them, and USD that it cost, NaN where unknown. n = 0: a cold start.
    sample
        (k, d) embeddings of prompts like those to come, without scores: the warm ones, or some of the stream's.
    install
        The examples of a fresh installation for every model: its seed prompts with priors, without scores.
    encoder
        Fingerprint of the encoder.
    """

    seed: int
    models: tuple[str, ...]
    columns: tuple[str, ...]
    cards: Mapping[str, ModelCard]
    prompts: Sequence[Prompt]
    scores: Array
    costs: Array
    sample: NDArray[np.float32]
    install: Examples
    encoder: str


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """A model that was found to ``drift`` (``detail``: its name), or what became of a snapshot (``detail``: why).

    A challenger is ``promoted``, ``rejected``, put ``on trial`` or ``let go``; a champion is ``held back`` from some
    requests and then ``kept`` or ``demoted``.
    """

    kind: Literal["drift", "promoted", "rejected", "on trial", "let go", "held back", "kept", "demoted"]
    detail: str


class Policy(Protocol):
    """A router under test; ``tasks`` is the number of tasks that it distinguishes, ``events`` grows while it learns."""

    @property
    def tasks(self) -> int: ...

    @property
    def events(self) -> Sequence[PolicyEvent]: ...

    def set_models(self, models: Sequence[str]) -> None:
        """Replace the pool."""
        ...

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> PolicyChoice:
        """Choose among ``allowed`` (None: the whole pool)."""
        ...

    def learn_one(self, feedback: Feedback) -> None: ...

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        """Learn what the call of a choice cost, in USD; called once for each choice of known cost, before the next one."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A policy that asks a model that joins before it routes to it."""

    def probe(
        self, model: str, prompts: Mapping[str, Prompt], count: int, ask: Callable[[Prompt], ProbeResult]
    ) -> None:
        """``ask`` the model at most ``count`` of ``prompts``, which came before, by their ids; and learn the results."""
        ...


PolicyFactory = Callable[[Start], Policy]
