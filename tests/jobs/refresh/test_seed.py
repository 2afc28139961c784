"""Priors of the seed set follow the published figures, and so does the first snapshot."""

from __future__ import annotations

import numpy as np
import pytest

from agent.types import ModelCard
from jobs.context import PACKAGED_POOL
from jobs.refresh.seed import ensure_champion, kind_priors, known_texts, seed_examples, seed_prompts
from jobs.settings import JobSettings
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.pool.file import PoolFile
from store.snapshots import SnapshotStore
from tests.jobs.made import WordEncoder


def test_a_prior_is_the_weighted_mean_of_the_figures_that_there_are() -> None:
    cards = [
        ModelCard("both", priors={"math": 0.8, "code": 0.4}),
        ModelCard("one", priors={"math": 0.6}),
        ModelCard("other", priors={"creative": 0.3, "code": 0.5}),
        ModelCard("none"),
    ]
    priors = kind_priors({"math": 0.75, "reasoning": 0.0, "code": 0.25}, cards)
    assert priors[:3] == pytest.approx([0.7, 0.6, 0.5])
    assert priors[3] == pytest.approx(np.mean([0.8, 0.4, 0.6, 0.3, 0.5]))
    assert kind_priors({"creative": 1.0}, cards)[0] == pytest.approx(0.6)


def test_without_any_figure_every_model_is_alike() -> None:
    assert list(kind_priors({"math": 1.0}, [ModelCard("a"), ModelCard("b")])) == [0.5, 0.5]


def test_the_packaged_seed_set_is_whole(settings: JobSettings) -> None:
    prompts = seed_prompts()
    assert len(prompts) >= 300
    assert len({p["kind"] for p in prompts}) >= 25
    cards = [m.card for m in PoolFile.load(PACKAGED_POOL)]
    examples = seed_examples(CachedEncoder(WordEncoder(), settings.cache), cards)
    assert examples.prior is not None
    assert examples.prior.shape == (len(examples), len(cards))
    assert ((examples.prior > 0) & (examples.prior < 1)).all()
    assert np.isnan(examples.scores).all()


def test_the_first_champion_is_built_once(home_database: Database, settings: JobSettings) -> None:
    encoder = CachedEncoder(WordEncoder(), settings.cache)
    cards = [ModelCard("good", priors={"math": 0.9, "code": 0.9}), ModelCard("bad", priors={"math": 0.2, "code": 0.2})]
    first = ensure_champion(home_database, encoder, cards)
    assert first.version == SnapshotStore(home_database).champion_version()
    assert set(first.models) == {"good", "bad"}
    assert all(task.means["good"][0] > task.means["bad"][0] for task in first.tasks)
    again = ensure_champion(home_database, encoder, cards)
    assert again.version == first.version
    assert len(SnapshotStore(home_database).list()) == 1
    medoid = first.tasks[0].medoids[0]
    assert known_texts(home_database, [medoid, "unknown"], first.encoder).keys() == {medoid}
