"""What a router is in a replay: it knows a beginning, chooses for one prompt at a time, and hears scores later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.examples import Examples
from agent.types import UNKNOWN_TASK, Array, Candidate, Encoded, ModelCard, Source


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as a router sees it; ``id`` is the one that the store would give it."""

    id: str
    text: str
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice: of which ``model``, with what propensity, expecting what quality (NaN: nothing), for which task.

    ``explored``: whether another model was expected to be better; None where the router does not tell. ``candidates``: what
    the decision weighed.
    """

    model: str
    explored: bool | None = None
    propensity: float = 1.0
    expected: float = float("nan")
    task: int = UNKNOWN_TASK
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Feedback on the choice that was made at ``step``: a ``score`` in [0, 1], from whom."""

    step: int
    prompt: Prompt
    pick: Pick
    score: float
    source: Source
    rater: str


@dataclass(frozen=True, slots=True)
class Start:
    """What a router may know before the first prompt.

    Parameters
    ----------
    seed
        Of its own chance.
    models
        The pool at the start.
    columns
        Every model of the data, in the order of the columns below.
    cards
        By model, all of them.
    prompts, scores, costs
        n warm prompts; (n, m) what each model scored and cost on them, NaN where unknown. n = 0: a cold start.
    sample
        (k, d) embeddings of prompts like those to come, without scores: the warm ones, or some of the stream's.
    install
        What a fresh installation knows of every model: its own seed prompts, and no score.
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
class News:
    """What a router says of itself: a model ``drift``ed, or a refresh was ``promoted`` or ``rejected``, and about that."""

    kind: Literal["drift", "promoted", "rejected"]
    what: str


class Policy(Protocol):
    """A router; ``tasks`` is how many it tells apart, ``news`` grows while it learns."""

    @property
    def tasks(self) -> int: ...

    @property
    def news(self) -> Sequence[News]: ...

    def set_models(self, models: Sequence[str]) -> None:
        """Replace the pool."""
        ...

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> Pick:
        """Choose among ``allowed`` (None: the whole pool)."""
        ...

    def learn_one(self, event: Event) -> None:
        """Hear one score."""
        ...
