"""Prompts of four kinds with known qualities, each kind with one model that is good at it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agent.encoding import features as text
from agent.examples import Examples
from agent.fit import fit
from agent.observations import Observation
from agent.snapshot import Snapshot
from agent.types import Encoded, ModelCard, Turn

KINDS = ("rivers", "sums", "code", "poems")
TALENT = {"rivers": "v/alpha", "sums": "v/beta", "code": "v/gamma", "poems": "v/alpha"}
MODELS = ("v/alpha", "v/beta", "v/gamma", "v/tiny")
GOOD, FAIR, POOR = 0.9, 0.55, 0.4
DIMENSION = 16
PROMPTS = 40
SPREAD = 0.1

CARDS = (
    ModelCard("v/alpha", "v", 5.0, 15.0, 128_000, frozenset({"tools", "vision"})),
    ModelCard("v/beta", "v", 3.0, 9.0, 32_000, frozenset({"tools"})),
    ModelCard("v/gamma", "v", 3.0, 9.0, 32_000),
    ModelCard("v/tiny", "v", 0.1, 0.2, 4_000),
)


def truth(kind: str, model: str) -> float:
    """The quality of ``model`` on prompts of ``kind``."""
    return POOR if model == "v/tiny" else GOOD if TALENT[kind] == model else FAIR


def encoded(kind: str, seed: int = 0, tokens: int = 20) -> Encoded:
    """The ``seed``-th prompt of a kind."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    vector = np.eye(DIMENSION)[KINDS.index(kind)] + SPREAD * rng.standard_normal(DIMENSION)
    features = text.features((Turn("user", f"Tell me about {kind} please."),))
    return Encoded((vector / np.linalg.norm(vector)).astype(np.float32), features, tokens)


def far() -> Encoded:
    """A prompt far from every kind."""
    return replace(encoded(KINDS[0]), embedding=-np.eye(DIMENSION, dtype=np.float32)[-1])


def observed(
    seq: int, kind: str, model: str, score: float, *, prompt: int | None = None, revises: float | None = None
) -> Observation:
    """A row of the feedback log on a prompt of ``kind``, by default one of its own."""
    number = seq if prompt is None else prompt
    return Observation(
        seq=seq, decision_id=f"{kind}-{seq}", prompt_id=f"{kind}-{number}", model=model, score=score, source="user",
        rater=f"r{seq}", encoded=encoded(kind, 1000 + number), revises=revises,
    )  # fmt: skip


@cache
def snapshot() -> Snapshot:
    """Trained on `PROMPTS` prompts of each kind; the log's position is 100."""
    rng = np.random.default_rng(0)
    kinds = [kind for kind in KINDS for _ in range(PROMPTS)]
    scores = np.array([[truth(kind, model) for model in MODELS] for kind in kinds])
    examples = _examples(np.clip(scores + 0.03 * rng.standard_normal(scores.shape), 0.0, 1.0))
    return fit(examples, encoder="made", position=100).with_version(7)


@cache
def costly(model: str, usd: float) -> Snapshot:
    """The same, with evaluations that cost ``usd`` at one model, give or take a tenth, and are of unknown cost elsewhere."""
    rng = np.random.default_rng(1)
    scores = np.repeat(np.array([[truth(kind, m) for m in MODELS] for kind in KINDS]), PROMPTS, axis=0)
    costs = np.full(scores.shape, np.nan)
    costs[:, MODELS.index(model)] = usd * rng.uniform(0.9, 1.1, len(costs))
    return fit(replace(_examples(scores), costs=costs), encoder="made", position=100).with_version(7)


@cache
def untrained(published: bool = False) -> Snapshot:
    """The same without any score; ``published``: with a figure of every model on every kind, at the upper end."""
    nothing = np.full((PROMPTS * len(KINDS), len(MODELS)), np.nan)
    figures = np.array([[0.95 if TALENT[kind] == model else 0.9 for model in MODELS] for kind in KINDS])
    prior = np.repeat(figures, PROMPTS, axis=0) if published else None
    return fit(replace(_examples(nothing), prior=prior), encoder="made", position=100)


def _examples(scores: NDArray[np.float64]) -> Examples:
    kinds = [kind for kind in KINDS for _ in range(PROMPTS)]
    prompts = [encoded(kind, i) for i, kind in enumerate(kinds)]
    return Examples(
        ids=tuple(f"seed-{i}" for i in range(len(kinds))),
        embeddings=np.stack([p.embedding for p in prompts]),
        features=np.stack([p.features for p in prompts]),
        scores=scores,
        models=MODELS,
        texts=tuple(f"Tell me about {kind} please." for kind in kinds),
    )
