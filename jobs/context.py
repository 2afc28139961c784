"""What a job works with, opened when it is first needed and closed together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import store
from agent.encoding.encoder import Encoder
from agent.types import ModelCard
from jobs.settings import JobSettings
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.encoders.load import load_encoder
from store.feedback import FeedbackLog
from store.pool.file import PoolFile, PoolModel
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter

PACKAGED_POOL = Path(str(store.__file__)).parent / "data" / "pool.yaml"


class Context:
    """Database, encoder and pool by one set of settings.

    Parameters
    ----------
    settings
        Whose.
    env
        Where providers' keys are looked up.
    """

    def __init__(self, settings: JobSettings, env: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._env = os.environ if env is None else env

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in ("writer", "database"):
            if opened in self.__dict__:
                self.__dict__.pop(opened).close()

    @cached_property
    def database(self) -> Database:
        """The database, migrated."""
        return Database.open(self.settings.store.database_url)

    @cached_property
    def writer(self) -> GroupCommitter:
        """Commits decisions and feedback."""
        return GroupCommitter(self.database)

    @cached_property
    def feedback(self) -> FeedbackLog:
        """The feedback log."""
        return FeedbackLog(self.database, self.writer)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        """The snapshots."""
        return SnapshotStore(self.database)

    @cached_property
    def encoder(self) -> Encoder:
        """The configured encoder; the bundled one is exported to the cache at its first use ever."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch and its exporter remark on themselves
            return load_encoder(self.settings.encoder, self.settings.cache, self.settings.encoder_threads)

    @cached_property
    def cached_encoder(self) -> CachedEncoder:
        """The same for lone prompts, remembered by content."""
        return CachedEncoder(self.encoder, self.settings.cache)

    @cached_property
    def pool(self) -> ModelPool:
        """The pool, its file read before."""
        self.sync_pool()
        return ModelPool(self.database)

    def sync_pool(self) -> None:
        """Read the pool file: always where the settings name one, else only into an empty pool.

        A command without `THALWEG_POOL` must not undo the pool file that the server was started with.
        """
        pool = ModelPool(self.database)
        if self.settings.pool is not None or not pool.list(include_removed=True):
            pool.sync(PoolFile.load(self.settings.pool or PACKAGED_POOL))

    def models(self) -> list[tuple[PoolModel, str | None]]:
        """The pool's models, each with what it lacks to be called (None: nothing)."""
        return [(model, missing(model, self._env)) for model in self.pool.list()]

    def cards(self) -> list[ModelCard]:
        """What the router reads of them."""
        return [replace(model.card, available=lack is None) for model, lack in self.models()]


def missing(model: PoolModel, env: Mapping[str, str]) -> str | None:
    """What a model lacks to be called from here, by its key alone; None where nothing."""
    key = model.provider.api_key_env
    return f"{key} is not set" if key and not env.get(key) else None


def means_of_priors(cards: Sequence[ModelCard]) -> dict[str, float]:
    """model -> the mean of its published figures, for those that have any."""
    return {c.name: sum(c.priors.values()) / len(c.priors) for c in cards if c.priors}
