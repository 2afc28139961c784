"""What one replica consists of, opened and closed as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.choice.limiter import ExplorationLimiter
from serve.metrics import Metrics
from serve.providers.base import Provider
from serve.routing.follower import Follower
from serve.routing.live import LiveRouter
from serve.routing.pool_view import PoolView
from serve.settings import ServeSettings
from store.database import Database
from store.decisions import DecisionLog
from store.drifts import DriftStore
from store.encoders.load import load_encoder
from store.feedback import FeedbackLog
from store.keys import bootstrap_key
from store.lineage import TaskLineage
from store.pool.file import PoolFile, PoolModel
from store.pool.models import ModelPool
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter

BOOTSTRAP = "bootstrap"
"""Name of the only API key there is so far, as decisions record it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that the routes use; `open` makes it."""

    settings: ServeSettings
    key: str
    jobs: tuple[str, ...]
    database: Database
    writer: GroupCommitter
    decisions: DecisionLog
    feedback: FeedbackLog
    snapshots: SnapshotStore
    lineage: TaskLineage
    drifts: DriftStore
    pool: ModelPool
    runs: JobRuns
    providers: Mapping[str, Provider]
    metrics: Metrics
    follower: Follower
    live: LiveRouter

    @classmethod
    def open(cls, settings: ServeSettings, providers: Mapping[str, Provider], jobs: Sequence[str]) -> Service:
        """Open the store, read the pool file and start to follow the store.

        Parameters
        ----------
        settings
            Of the replica.
        providers
            By kind.
        jobs
            Names of the jobs that may be asked for.

        Raises
        ------
        BadDataFile
            The pool file has a mistake.
        StoreUnavailable
            The database or the home cannot be used.
        """
        models = PoolFile.load(settings.pool)
        key, _ = bootstrap_key(settings.api_key, settings.home)
        database = Database.open(settings.database_url)
        writer = GroupCommitter(database)
        metrics = Metrics()
        decisions = DecisionLog(database, writer, settings.store_prompts)
        feedback = FeedbackLog(database, writer)
        snapshots = SnapshotStore(database)
        drifts = DriftStore(database)
        pool = ModelPool(database)
        pool.sync(models)

        def pool_view_of(models: Sequence[PoolModel]) -> PoolView:
            return PoolView(models, providers)

        follower = Follower(
            snapshots=snapshots,
            feedback=feedback,
            pool=pool,
            drifts=drifts,
            load_encoder=lambda: load_encoder(settings.encoder, settings.cache),
            pool_view_of=pool_view_of,
            metrics=metrics,
        )
        follower.start()
        return cls(
            settings=settings,
            key=key,
            jobs=tuple(jobs),
            database=database,
            writer=writer,
            decisions=decisions,
            feedback=feedback,
            snapshots=snapshots,
            lineage=TaskLineage(database),
            drifts=drifts,
            pool=pool,
            runs=JobRuns(database),
            providers=providers,
            metrics=metrics,
            follower=follower,
            live=LiveRouter(
                follower, decisions, metrics, np.random.default_rng(), ExplorationLimiter(settings.explore)
            ),
        )

    async def close(self) -> None:
        """Write what is waiting, then close everything."""
        for provider in self.providers.values():
            await provider.close()
        self.follower.stop()
        self.live.close()
        self.writer.close()
        self.database.close()
