"""The first snapshot: what published figures say of every model on prompts of our own, before anyone scored anything.

``store/data/seed.jsonl`` holds short prompts by kind of task, ``store/data/kinds.yaml`` what skills a kind draws on. A
model's prior on a kind is the weighted mean of its published figures by skill; a skill without a figure is left out and
the other weights grow; a kind without any falls back on the model's mean, then on the pool's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import store
from agent.errors import BadDataFile
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import ModelCard
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.pool.yaml import read_yaml
from store.prompts import text_id
from store.snapshots import SnapshotStore

DATA = Path(str(store.__file__)).parent / "data"
UNKNOWN_QUALITY = 0.5
"""Prior of a model where neither it nor any model of the pool has a published figure."""


def ensure_champion(
    database: Database,
    encoder: CachedEncoder,
    cards: Sequence[ModelCard],
    *,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Snapshot:
    """The champion; built from the seed set and published where there is none yet.

    Parameters
    ----------
    encoder
        Of the prompts that will be routed.
    cards
        The pool; unavailable models are ranked too.

    Raises
    ------
    SnapshotCorrupt
        Where there is a champion that cannot be read.
    """
    snapshots = SnapshotStore(database)
    version = snapshots.champion_version()
    if version is not None:
        return snapshots.load(version)
    first = fit(seed_examples(encoder, cards), encoder=encoder.fingerprint, seed=seed, progress=progress)
    version = snapshots.champion_version()
    if version is not None:  # another process was first
        return snapshots.load(version)
    return snapshots.publish(first, status="champion", report={"reason": "first start"}, created_by="seed")


def seed_examples(encoder: CachedEncoder, cards: Sequence[ModelCard]) -> Examples:
    """The seed prompts with priors and no scores."""
    prompts = seed_prompts()
    kinds = read_yaml(DATA / "kinds.yaml").data
    unknown = {p["kind"] for p in prompts} - kinds.keys()
    if unknown:
        raise BadDataFile(f"{DATA / 'seed.jsonl'}: kinds.yaml does not know {', '.join(sorted(unknown))}", param="kind")
    texts = tuple(dict.fromkeys(p["prompt"] for p in prompts))
    kind_of = {p["prompt"]: p["kind"] for p in prompts}
    priors = {kind: kind_priors(about["skills"], cards) for kind, about in kinds.items()}
    encoded = encoder.encode(texts)
    return Examples(
        ids=tuple(text_id(t, encoder.fingerprint) for t in texts),
        embeddings=np.stack([e.embedding for e in encoded]),
        features=np.stack([e.features for e in encoded]),
        scores=np.full((len(texts), len(cards)), np.nan),
        models=tuple(c.name for c in cards),
        prior=np.stack([priors[kind_of[t]] for t in texts]),
        texts=texts,
    )


def seed_prompts() -> list[dict[str, str]]:
    """The seed set: ``kind`` and ``prompt`` of each."""
    lines = (DATA / "seed.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def kind_priors(skills: Mapping[str, float], cards: Sequence[ModelCard]) -> NDArray[np.float64]:
    """(models,) prior quality on a kind that draws on ``skills`` (axis -> weight)."""
    figures = [value for card in cards for value in card.priors.values()]
    pool = sum(figures) / len(figures) if figures else UNKNOWN_QUALITY
    return np.array([_prior(skills, card, pool) for card in cards])


def _prior(skills: Mapping[str, float], card: ModelCard, pool: float) -> float:
    known = {axis: weight for axis, weight in skills.items() if axis in card.priors and weight > 0}
    if known:
        return sum(weight * card.priors[axis] for axis, weight in known.items()) / sum(known.values())
    return sum(card.priors.values()) / len(card.priors) if card.priors else pool
