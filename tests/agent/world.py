"""Made-up training data: prompts of four kinds, and models of which each is good at one."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent.encoding import features as text
from agent.examples import Examples
from agent.types import Turn

KINDS = {
    "cooking": "simmer onion garlic butter oven recipe flour taste sauce pepper stir roast".split(),
    "algebra": "solve equation polynomial root factor integer matrix proof variable sum square linear".split(),
    "history": "empire century treaty king revolt battle dynasty colony parliament war reform church".split(),
    "poetry": "rhyme stanza moon river sonnet verse lament autumn ballad meter dusk lyric".split(),
}
MODELS = ("chef", "maths", "scholar", "poet", "cheap")
DIMENSION = 24


def world(n: int = 160, seed: int = 0, noise: float = 0.3, **changes: Any) -> Examples:
    """``n`` prompts; ``changes`` replaces fields."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((len(KINDS), DIMENSION))
    kind = rng.integers(0, len(KINDS), n)
    embeddings = directions[kind] + noise * rng.standard_normal((n, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    words = list(KINDS.values())
    texts = tuple(" ".join(rng.choice(words[k], 6, replace=False)) for k in kind)
    chance = np.where(np.arange(len(MODELS)) == kind[:, None], 0.9, 0.3)
    costs = np.array([0.01, 0.02, 0.03, 0.01, 0.001]) * np.exp(0.1 * rng.standard_normal((n, len(MODELS))))
    fields: dict[str, Any] = {
        "ids": tuple(f"p{seed}-{i}" for i in range(n)),
        "embeddings": embeddings.astype(np.float32),
        "features": np.stack([text.features((Turn("user", t),)) for t in texts]),
        "scores": (rng.random((n, len(MODELS))) < chance).astype(float),
        "models": MODELS,
        "costs": costs,
        "texts": texts,
    }
    return Examples(**(fields | changes))


def best(examples: Examples) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n,) column of the model that is good at each prompt's kind."""
    word = {w: k for k, kind in enumerate(KINDS.values()) for w in kind}
    return np.array([word[t.split()[0]] for t in examples.texts])
