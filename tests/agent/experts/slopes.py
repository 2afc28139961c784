"""Made-up training data in which tasks have slopes of their own: in each kind of prompts two models change places along a
direction that all kinds share, and which of two does better where differs from kind to kind."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from agent.encoding import features as text
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import Array, Turn

KINDS, DIMENSION = 6, 64
MODELS = ("v/one", "v/two", "v/three", "v/four")
ALONG, ACROSS = 0.5, 0.3
"""Standard deviations of a prompt's embedding along the shared direction, and along each other one."""

SLOPE, NOISE = 0.25, 0.2


def slopes(n: int, seed: int = 0, **changes: Any) -> tuple[Examples, Array]:
    """``n`` prompts with a noisy score of each model, and the (n, m) qualities behind them; ``changes`` replaces fields."""
    rng = np.random.default_rng(seed)
    kind, along = rng.integers(0, KINDS, n), rng.standard_normal(n)
    embeddings = np.eye(DIMENSION)[kind] + ACROSS * rng.standard_normal((n, DIMENSION))
    embeddings[:, -1] = ALONG * along
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    quality = np.full((n, len(MODELS)), 0.35)
    first, second = kind % len(MODELS), (kind + 1 + kind // len(MODELS)) % len(MODELS)
    quality[np.arange(n), first] = 0.55 + SLOPE * np.tanh(along)
    quality[np.arange(n), second] = 0.55 - SLOPE * np.tanh(along)
    features = text.features((Turn("user", "The same words everywhere."),))
    fields: dict[str, Any] = {
        "ids": tuple(f"s{seed}-{i}" for i in range(n)),
        "embeddings": embeddings.astype(np.float32),
        "features": np.tile(features, (n, 1)),
        "scores": np.clip(quality + NOISE * rng.standard_normal(quality.shape), 0.0, 1.0),
        "models": MODELS,
    }
    return Examples(**(fields | changes)), quality


@cache
def snapshot() -> Snapshot:
    """Trained on 600 prompts."""
    return fit(slopes(600)[0], encoder="made").with_version(3)
