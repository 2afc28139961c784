"""The composition root of a job: database, logs, encoder and model pool by one set of settings.

Each part is opened when it is first used; leaving the ``with`` block closes them.
"""

from __future__ import annotations

import os
import resource
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import store
from agent.encoding.encoder import Encoder
from agent.snapshot import Snapshot
from agent.types import ModelCard
from jobs.settings import JobSettings
from store.columns import Clock, utc_now
from store.database import Database
from store.encoders.backends import load_encoder
from store.encoders.cache import CachedEncoder
from store.feedback import FeedbackLog
from store.pool.file import PoolFile, PoolModel
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter

PACKAGED_POOL = Path(str(store.__file__)).parent / "data" / "pool.yaml"


class JobContext:
    """Everything that a job or a command works with.

    Parameters
    ----------
    settings
        Where the database is, which encoder, which pool file.
    env
        Environment in which the providers' API keys are looked up; the process's own where None.
    clock
        Tells the time that is written to rows and by which retention lets them go.
    """

    def __init__(self, settings: JobSettings, env: Mapping[str, str] | None = None, clock: Clock = utc_now) -> None:
        self.settings = settings
        self.clock = clock
        self.env: Mapping[str, str] = os.environ if env is None else env

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
        return Database.open(self.settings.database_url)

    @cached_property
    def writer(self) -> GroupCommitter:
        """The group committer through which decisions and feedback are written."""
        return GroupCommitter(self.database)

    @cached_property
    def feedback(self) -> FeedbackLog:
        """The feedback log."""
        return FeedbackLog(self.database, self.writer, self.clock)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        """The snapshots."""
        return SnapshotStore(self.database, self.clock)

    @cached_property
    def encoder(self) -> Encoder:
        """The configured encoder; the bundled one is exported to the cache the first time it is used."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch and its exporter warn about themselves
            return load_encoder(self.settings.encoder, self.settings.cache, self.settings.encoder_threads)

    @cached_property
    def cached_encoder(self) -> CachedEncoder:
        """The same encoder for single prompts, with a cache on disk by content."""
        return CachedEncoder(self.encoder, self.settings.cache)

    @cached_property
    def pool(self) -> ModelPool:
        """The model pool, after `sync_pool`."""
        self.sync_pool()
        return ModelPool(self.database, self.clock)

    def sync_pool(self) -> None:
        """Read the pool file into the database: always where the settings name one, else only into an empty pool.

        A command without `THALWEG_POOL` must not undo the pool file that the server was started with. A server reads its
        pool file at the start; a run that it executes does not.
        """
        pool = ModelPool(self.database, self.clock)
        if self.settings.pool is not None or not pool.list(include_removed=True):
            pool.sync(PoolFile.load(self.settings.pool or PACKAGED_POOL))

    def models(self, *, include_removed: bool = False) -> list[tuple[PoolModel, str | None]]:
        """The pool's models, each with the reason why it cannot be called from here; None where it can."""
        return [(model, self.unavailable_reason(model)) for model in self.pool.list(include_removed)]

    def unavailable_reason(self, model: PoolModel) -> str | None:
        """Why a model cannot be called, or not with the API keys of the environment; None where it can."""
        if model.unrouted_reason is not None:
            return model.unrouted_reason
        key = model.provider.api_key_env
        return f"{key} is not set" if key and not self.env.get(key) else None

    def cards(self) -> list[ModelCard]:
        """The router's cards of these models."""
        return [replace(model.routed_card, available=reason is None) for model, reason in self.models()]

    def champion(self) -> Snapshot | None:
        """The champion; None before the first. Raises `SnapshotCorrupt` where it cannot be read."""
        version = self.snapshots.champion_version()
        return None if version is None else self.snapshots.load(version)


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
