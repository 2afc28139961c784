"""The composition root: reads the environment once and binds the three deployments.

``serve run serve.app:app``, or with arguments ``serve run serve.app:build home=/srv/thalweg encoder=...``, or with a
config file, see ``docs/serve.yaml``. Arguments win over environment variables of the same name: ``max_body=1000`` is
``THALWEG_MAX_BODY=1000``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve import Application

from agent.errors import InvalidInput, ThalwegError, did_you_mean
from jobs.context import JobContext
from jobs.refresh.seed import ensure_champion
from jobs.schedule.timetable import Timetable, plans
from jobs.schedule.worker import run_job
from jobs.settings import JobSettings
from serve.ingress import Ingress
from serve.providers.local.model import LocalModel
from serve.settings import ServeSettings
from store.database import Database
from store.keys import bootstrap_key
from store.pool.file import PoolFile
from store.runs import Run
from store.settings import PREFIX
from store.snapshots import SnapshotStore

_RETRY_S = 10.0
_ARGUMENTS = tuple(name for name in ServeSettings.model_fields | JobSettings.model_fields if name != "api_key")

_log = logging.getLogger("ray.serve")


def build(args: Mapping[str, Any]) -> Application:
    """Bind the app.

    The settings are read and checked here, in the driver, so that a mistake ends the start and every replica has the
    same; nothing else is opened before a replica starts.

    Parameters
    ----------
    args
        Settings by their variables' names, in lower case and without the prefix.

    Raises
    ------
    SystemExit
        Where a setting or the pool file is wrong; says what.
    """
    try:
        env = environment(os.environ, args)
        settings = ServeSettings.from_env(env)
        jobs = JobSettings.from_env(env)
        PoolFile.load(settings.pool)
        key, made = bootstrap_key(settings.api_key, settings.home)
    except ThalwegError as error:
        raise SystemExit(f"thalweg: {error.message}") from error
    if made:
        print(f"Thalweg's API key is {key} (kept in {settings.home / 'api_key'})", flush=True)
    local = deployment(LocalModel, cpus=0.2, ongoing=64).bind(settings.cache)
    scheduler = deployment(Scheduler, cpus=0.1).bind(jobs)
    router = deployment(serve.ingress()(Ingress), cpus=0.4, ongoing=200)
    return router.bind(settings.model_copy(update={"api_key": key}), local, scheduler, plans(jobs))


def deployment(kind: Callable[..., Any], *, cpus: float, ongoing: int = 5) -> serve.Deployment:
    """``kind`` as a Serve deployment; all of them and a job together take one CPU, so that they start anywhere."""
    options = {"num_cpus": cpus}
    return serve.deployment(name=kind.__name__, max_ongoing_requests=ongoing, ray_actor_options=options)(kind)


def environment(env: Mapping[str, str], args: Mapping[str, Any]) -> dict[str, str]:
    """``env`` with ``args`` over it; raises `InvalidInput` for an argument that is no setting."""
    unknown = [name for name in args if name not in _ARGUMENTS]
    if unknown:
        hints = ", ".join(f"{name!r}{did_you_mean(name, _ARGUMENTS)}" for name in unknown)
        raise InvalidInput(f"no such argument: {hints} (there are {', '.join(_ARGUMENTS)})")
    return dict(env) | {PREFIX + name.upper(): str(value) for name, value in args.items()}


class Scheduler:
    """The singleton deployment that builds the first snapshot, then starts jobs by the timetable, each as a Ray task.

    Parameters
    ----------
    settings
        Of the jobs.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._database = Database.open(settings.database_url)
        self._timetable = Timetable(self._database, settings, self._execute)
        self._started = False
        self._starter = threading.Thread(target=self._begin, name="begin", daemon=True)
        self._starter.start()

    def check_health(self) -> None:
        """Called by Serve, which restarts the replica where it raises: nothing starts jobs any more."""
        if self._started:
            self._timetable.check_health()
        elif not self._starter.is_alive():
            raise RuntimeError("the thread that builds the first snapshot and starts the timetable has ended")

    def _begin(self) -> None:
        while SnapshotStore(self._database).champion_version() is None:
            try:
                _in_task(seed, self._settings)
            except Exception as error:  # of any kind: it is tried again, and /readyz reports that there is no snapshot
                _log.error("the first snapshot could not be built, next try in %g s: %r", _RETRY_S, error)
                time.sleep(_RETRY_S)
        self._timetable.start()
        self._started = True

    def _execute(self, run: Run) -> None:
        _in_task(work, run, self._settings)


def seed(settings: JobSettings) -> None:
    """Build the first snapshot; runs in a Ray task."""
    with JobContext(settings) as ctx:
        ensure_champion(ctx.database, ctx.cached_encoder, ctx.cards(), seed=settings.seed)


def work(run: Run, settings: JobSettings) -> None:
    """Do a run; runs in a Ray task, at low priority so that requests go first."""
    os.nice(max(0, 10 - os.nice(0)))
    run_job(run, settings)


def _in_task(function: Callable[..., None], *args: Any) -> None:
    """Call ``function`` in a Ray task and wait for it; raises what it raises."""
    try:
        ray.get(ray.remote(num_cpus=0.3, max_retries=0)(function).remote(*args))
    except RayTaskError as error:
        raise error.cause from None


def __getattr__(name: str) -> Any:
    """``app``, bound when it is asked for: importing this module reads and starts nothing."""
    if name == "app":
        return build({})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
