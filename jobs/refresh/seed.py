"""The seed set and the first snapshot: priors from published figures, before anything has been scored.

``store/data/seed.jsonl`` holds short prompts by kind of task, ``store/data/kinds.yaml`` the weights of the skills that a
kind needs. A model's prior on a kind is the weighted mean of its published figures by skill. Skills without a figure are
left out; a model without any of a kind's figures gets the mean of all its figures, one without figures the pool's mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

import store
from agent.errors import BadDataFile
from agent.evaluation.challenger import Progress
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import ModelCard
from store.columns import Clock, utc_now
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.pool.file import read_yaml
from store.prompts import text_id
from store.snapshots import SnapshotStore
from store.tables import PromptTable

DATA = Path(str(store.__file__)).parent / "data"
UNKNOWN_QUALITY = 0.5
"""Prior of a model where neither it nor any model of the pool has a published figure."""


def ensure_champion(
    database: Database,
    encoder: CachedEncoder,
    cards: Sequence[ModelCard],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    clock: Clock = utc_now,
) -> Snapshot:
    """The champion; where there is none yet, one is built from the seed set and published.

    Parameters
    ----------
    encoder
        Encodes the prompts that will be routed.
    cards
        The pool's models, unavailable ones included.
    progress
        Called with (stage, share done).
    clock
        Tells when the snapshot is published.

    Raises
    ------
    SnapshotCorrupt
        Where there is a champion that cannot be read.
    """
    snapshots = SnapshotStore(database, clock)
    version = snapshots.champion_version()
    if version is not None:
        return snapshots.load(version)
    first = fit(seed_examples(encoder, cards), encoder=encoder.fingerprint, seed=seed, progress=progress)
    version = snapshots.champion_version()
    if version is not None:  # another process was first
        return snapshots.load(version)
    return snapshots.publish(first, status="champion", report={"reason": "first start"}, created_by="seed")


def seed_examples(encoder: CachedEncoder, cards: Sequence[ModelCard]) -> Examples:
    """The seed prompts, with priors and without scores."""
    prompts = seed_prompts()
    kinds = read_yaml(DATA / "kinds.yaml").data
    unknown = {p["kind"] for p in prompts} - kinds.keys()
    if unknown:
        raise BadDataFile(f"{DATA / 'seed.jsonl'}: kinds.yaml lacks {', '.join(sorted(unknown))}", param="kind")
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
    """The seed set: each with its ``kind`` and ``prompt``."""
    lines = (DATA / "seed.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def known_texts(database: Database, ids: Sequence[str], encoder: str) -> dict[str, str]:
    """prompt id -> text, for prompts that ``encoder`` encoded: the seed set's always, others where the text is stored."""
    texts = {text_id(p["prompt"], encoder): p["prompt"] for p in seed_prompts()}
    query = select(PromptTable.id, PromptTable.text).where(PromptTable.id.in_(ids))
    with database.session() as session:
        texts.update((name, text) for name, text in session.execute(query) if text is not None)
    return {name: texts[name] for name in ids if name in texts}


def kind_priors(skills: Mapping[str, float], cards: Sequence[ModelCard]) -> NDArray[np.float64]:
    """(models,) prior quality on a kind that needs ``skills`` (axis -> weight)."""
    figures = [value for card in cards for value in card.priors.values()]
    pool = sum(figures) / len(figures) if figures else UNKNOWN_QUALITY
    return np.array([_prior(skills, card, pool) for card in cards])


def _prior(skills: Mapping[str, float], card: ModelCard, pool: float) -> float:
    known = {axis: weight for axis, weight in skills.items() if axis in card.priors and weight > 0}
    if known:
        return sum(weight * card.priors[axis] for axis, weight in known.items()) / sum(known.values())
    return sum(card.priors.values()) / len(card.priors) if card.priors else pool
