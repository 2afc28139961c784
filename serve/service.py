"""What one replica consists of, opened and closed as one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from agent.choice.limiter import ExplorationLimiter
from serve.metrics import Metrics
from serve.providers.base import Provider
from serve.routing.follower import Follower
from serve.routing.keeper import Keeper
from serve.routing.live import LiveRouter
from serve.routing.pool_view import PoolView
from serve.settings import ServeSettings
from store.database import Database
from store.decisions import DecisionLog
from store.drifts import DriftStore
from store.encoders.backends import load_encoder
from store.feedback import FeedbackLog
from store.joins import JoinStore
from store.kept_answers import KeptAnswers
from store.keys import bootstrap_key
from store.lineage import TaskLineage
from store.pool.file import PoolFile
from store.pool.models import ModelPool
from store.runs import JobRuns
from store.schedule import JobPlan
from store.set_aside import SetAsideStore
from store.snapshots import SnapshotStore
from store.trials import TrialStore
from store.writer import GroupCommitter

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that learns may keep one that routes from running; Python's own 5 ms is longer than a decision takes."""

BOOTSTRAP = "bootstrap"
"""Name of the only API key there is so far, as decisions record it."""


class Service:
    """Everything that the routes use: the open store, the pool, the router that follows the feedback log.

    Parameters
    ----------
    settings
        Of the replica.
    providers
        By kind.
    jobs
        The jobs that may be asked for, and when they run.

    Raises
    ------
    BadDataFile
        The pool file has a mistake.
    StoreUnavailable
        The database or the home cannot be used.
    """

    def __init__(self, settings: ServeSettings, providers: Mapping[str, Provider], jobs: Sequence[JobPlan]) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.settings = settings
        self.providers = providers
        self.jobs = tuple(jobs)
        models = PoolFile.load(settings.pool)
        self.key, _ = bootstrap_key(settings.api_key, settings.home)
        self.database = Database.open(settings.database_url)
        self.writer = GroupCommitter(self.database)
        self.metrics = Metrics()
        self.decisions = DecisionLog(self.database, self.writer, settings.store_prompts)
        self.keeper = Keeper(settings, KeptAnswers(self.database, self.writer))
        self.feedback = FeedbackLog(self.database, self.writer)
        self.snapshots = SnapshotStore(self.database)
        self.trials = TrialStore(self.database)
        self.lineage = TaskLineage(self.database)
        self.drifts = DriftStore(self.database)
        self.runs = JobRuns(self.database)
        self.pool = ModelPool(self.database)
        self.joins = JoinStore(self.database)
        self.pool.sync(models)
        self.set_aside = SetAsideStore(self.database)
        self.follower = Follower(
            database=self.database,
            snapshots=self.snapshots,
            feedback=self.feedback,
            trials=self.trials,
            pool=self.pool,
            drifts=self.drifts,
            load_encoder=lambda: load_encoder(settings.encoder, settings.cache),
            pool_view_of=lambda models: PoolView(models, providers),
            metrics=self.metrics,
        )
        self.follower.start()
        limiter = ExplorationLimiter(settings.explore)
        self.live = LiveRouter(self.follower, self.decisions, self.metrics, np.random.default_rng(), limiter)

    async def close(self) -> None:
        """Write what is waiting, then close everything."""
        for provider in self.providers.values():
            await provider.close()
        self.follower.stop()
        self.live.close()
        self.writer.close()
        self.database.close()
