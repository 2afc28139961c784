"""Made-up prompts in clusters, of the bundled encoder's size, and a feedback log on them."""

from __future__ import annotations

import numpy as np

from agent.encoding import features as text
from agent.examples import Examples
from agent.fit import fit
from agent.observations import Observation
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Array, Encoded, ModelCard, RouteRequest, Turn

MODELS = tuple(f"made/m{i}" for i in range(11))
CLUSTERS, DIMENSION, PROMPTS = 24, 384, 2000

_rng = np.random.default_rng(0)
CENTRES = _rng.standard_normal((CLUSTERS, DIMENSION)) / np.sqrt(DIMENSION)
TALENT = np.clip(0.5 + 0.2 * _rng.standard_normal((CLUSTERS, len(MODELS))), 0.05, 0.95)


def made_cards() -> list[ModelCard]:
    """The pool."""
    return [ModelCard(name, price_input=1.0, price_output=2.0, context=32_000) for name in MODELS]


def made_prompts(count: int, seed: int) -> tuple[Array, list[Encoded], list[str]]:
    """(n, m) chance of each model to answer well, the encoded prompts, and their texts."""
    rng = np.random.default_rng([1, seed])
    cluster = rng.integers(0, CLUSTERS, count)
    vectors = CENTRES[cluster] + 0.8 * rng.standard_normal((count, DIMENSION)) / np.sqrt(DIMENSION)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [" ".join(f"word{c}x{i}" for i in rng.integers(0, 40, 12)) for c in cluster]
    encoded = [Encoded(v.astype(np.float32), text.features((Turn("user", t),)), 20) for v, t in zip(vectors, texts)]
    return TALENT[cluster], encoded, texts


def made_snapshot() -> Snapshot:
    """Trained on `PROMPTS` prompts, of which every model was scored; some ten seconds."""
    chance, prompts, texts = made_prompts(PROMPTS, seed=0)
    examples = Examples(
        ids=tuple(f"p{i}" for i in range(PROMPTS)),
        embeddings=np.stack([p.embedding for p in prompts]),
        features=np.stack([p.features for p in prompts]),
        scores=(np.random.default_rng(1).random(chance.shape) < chance).astype(np.float64),
        models=MODELS,
        texts=tuple(texts),
    )
    return fit(examples, encoder="made").with_version(1)


def made_log(count: int, router: Router | None = None) -> list[Observation]:
    """Scores by fifty raters, each of a prompt of its own and of a random model; ``router`` made the decisions, if given."""
    rng = np.random.default_rng(3)
    chance, prompts, _ = made_prompts(count, seed=4)
    request = RouteRequest((), explore=False)
    estimates = [None if router is None else router.route(prompt, request, rng).estimate for prompt in prompts]
    return [
        Observation(
            seq=i + 1, decision_id=f"d{i}", prompt_id=f"q{i}", model=MODELS[m], score=float(rng.random() < chance[i, m]),
            source="user", rater=f"r{rng.integers(50)}", encoded=prompts[i], expected=float(chance[i, m]), key="partner",
            estimate=estimates[i],
        )
        for i, m in enumerate(rng.integers(0, len(MODELS), count))
    ]  # fmt: skip
