"""Keeping a replica's router up to date: new feedback, the pool, new champions; drifts that it finds are recorded.

All of it happens in one thread, the only one that updates the serving router. What takes long happens in another thread, the
builder: a new champion is loaded and caught up, then one reference is assigned, and no request waits; prompts that another
encoder encoded are encoded again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from agent.encoding.encoder import Encoder
from agent.errors import InvalidInput, SnapshotCorrupt, ThalwegError
from agent.observations import CallDrift, Drift
from agent.router import Router
from serve.metrics import Metrics
from serve.routing.catch_up import CatchUp
from serve.routing.join_metrics import JoinMetrics
from serve.routing.pool_view import PoolView
from serve.routing.rival import OnTrial, RivalLoader
from store.database import Database
from store.drifts import DriftStore
from store.feedback import FeedbackLog
from store.log_pages import LogPages
from store.outcomes import OutcomeLog, known_outcomes
from store.pool.file import PoolModel
from store.pool.models import ModelPool
from store.set_aside import SetAsideStore
from store.snapshots import SnapshotStore
from store.trials import TrialStore

TAIL_S = 0.25
"""Longest wait between two readings of the feedback log; `Follower.wake` ends it at once."""

POLL_S = 0.5
"""Time between two looks for a new champion or a changed pool."""

STUCK_S = 60.0
"""The thread is taken for stuck where a look at the store and a page of the log take longer."""

RETRY_S = 10.0
"""Wait before another try to load a champion that could not be loaded."""

_log = logging.getLogger("thalweg.serve")


@dataclass(frozen=True, slots=True)
class Serving:
    """What requests are routed with: a router, the encoder of its snapshot, how it catches up with the log, and what runs
    beside it."""

    encoder: Encoder
    router: Router
    catch_up: CatchUp
    on_trial: OnTrial | None = None

    @property
    def routers(self) -> list[Router]:
        """All that learn."""
        return [self.router] if self.on_trial is None else [self.router, self.on_trial.router]


class Follower:
    """Follows the store, from `start` to `stop`; a simulation calls `follow` by itself instead.

    Parameters
    ----------
    database
        The log is read from it, and it records what the routers find: silent changes, and rows set aside.
    snapshots, feedback, pool, drifts
        Its parts.
    load_encoder
        Called once, when there is a champion to serve.
    pool_view_of
        Makes a `PoolView` of the pool's models.
    metrics
        Where swaps, version, position and drifts are counted.
    monotonic
        Seconds, of a clock that never goes back.
    builder
        Where routers are built and prompts encoded; three threads where None. `stop` ends it.

    Attributes
    ----------
    serving
        The router that serves; None until the first champion is loaded.
    pool_view
        The pool at the revision seen last.
    outcomes
        What is known of the models' calls, shared by all routers.
    unavailable_reason
        Why the store cannot be read or written; None where it can.
    """

    serving: Serving | None = None

    def __init__(
        self,
        *,
        database: Database,
        snapshots: SnapshotStore,
        feedback: FeedbackLog,
        trials: TrialStore,
        pool: ModelPool,
        drifts: DriftStore,
        load_encoder: Callable[[], Encoder],
        pool_view_of: Callable[[Sequence[PoolModel]], PoolView],
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
        builder: Executor | None = None,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._feedback = feedback
        self._pool = pool
        self._drifts = drifts
        self._load_encoder = load_encoder
        self._pool_view_of = pool_view_of
        self._metrics = metrics
        self._monotonic = monotonic
        self._encoder: Encoder | None = None
        self._pool_lock = threading.Lock()
        self._revision = pool.revision()
        self.pool_view = pool_view_of(pool.list())
        self._join_metrics = JoinMetrics(database, metrics)
        self._outcome_log = OutcomeLog(database)
        self.outcomes = known_outcomes(database)
        self._call_drifts: list[CallDrift] = []  # to be recorded
        self.unavailable_reason: str | None = None
        self._degraded_reason: str | None = None
        self._building: Future[Serving] | None = None
        self._encoding: Future[None] | None = None
        self._wanted: int | None = None
        self._recorded = 0  # of the serving router's drifts
        self._next_poll = self._next_try = 0.0
        self._turned_at = time.monotonic()
        self._wake = threading.Event()
        self._stopping = False
        self._builder = builder or ThreadPoolExecutor(3, thread_name_prefix="builder")  # champion, rival, prompts
        self._former: Router | None = None
        self._rival = RivalLoader(trials, lambda version: self._build_exactly(version).router, self._builder, self.wake)
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._turned_at = time.monotonic()
        self._thread.start()

    def wake(self) -> None:
        """Read the log now: this replica has just added to it."""
        self._wake.set()

    def stop(self) -> None:
        """End the threads; what is being built is dropped."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._builder.shutdown(cancel_futures=True)

    @property
    def degraded_reason(self) -> str | None:
        """Why the champion is not what serves, or serves without the trial that runs; None where all is well."""
        if self.serving is None and self._degraded_reason is None:
            if self._wanted is not None:
                return f"snapshot {self._wanted} is being loaded"
            return "there is no snapshot yet; the scheduler builds the first one, its log says why where it fails"
        return self._degraded_reason or self._rival.missing_reason

    def _run(self) -> None:
        while not self._stopping:
            self._turned_at, more = time.monotonic(), False
            try:
                more = self.follow()
                self.unavailable_reason = None
            except ThalwegError as error:
                self.unavailable_reason = error.message
            except Exception as error:
                _log.exception("following the log failed; it is tried again")
                self.unavailable_reason = f"{type(error).__name__} while following the log; see the replica's log"
            if not more:
                self._wake.wait(TAIL_S)
                self._wake.clear()

    def check_health(self) -> None:
        """Raise `RuntimeError` where the thread has ended or is stuck; a store that is away is neither."""
        still = time.monotonic() - self._turned_at
        if not self._stopping and (not self._thread.is_alive() or still > STUCK_S):
            raise RuntimeError(f"the thread that follows the feedback log has not moved for {still:.0f} s")

    def follow(self) -> bool:
        """Look at the store once and learn a page of the log; whether there is more to learn at once."""
        more = False
        now = self._monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_S
            self.read_pool()
            self._join_metrics.update(self.pool_view)
            self._poll_champion(now)
            self._learn_outcomes()
        self._swap(now)
        self._follow_trial(now)
        if self.serving is not None:
            more = self._learn(self.serving)
            self._metrics.position.set(self.serving.router.position)
            self._metrics.set_aside.set(self.serving.router.n_set_aside)
            self._record_drifts(self.serving.router)
        return more

    def _learn(self, serving: Serving) -> bool:
        """Learn the next page of the log, up to a row whose prompt the builder must encode first; whether there may be more."""
        if self._encoding is not None:
            if not self._encoding.done():
                return False
            encoding, self._encoding = self._encoding, None
            encoding.result()
        done = serving.catch_up.advance(serving.routers)
        if done.missing:
            self._encoding = self._builder.submit(serving.catch_up.encode, done.missing)
            self._encoding.add_done_callback(lambda _: self.wake())
        return done.more

    def _record_drifts(self, router: Router) -> None:
        """Record the drifts found since the last call. Every replica does; the store returns those that are new."""
        found = router.drifts()
        if len(found) == self._recorded:
            return
        self._tell(self._drifts.record(router.snapshot.version, found[self._recorded :]))
        self._recorded = len(found)

    def _learn_outcomes(self) -> None:
        """Learn a page of the outcome log, record the drifts of calls found in it, and follow those that are recorded."""
        self._call_drifts += self.outcomes.learn_many(self._outcome_log.tail(self.outcomes.position))
        if self._call_drifts:
            self._tell(self._drifts.record_calls(self._call_drifts))
            self._call_drifts = []
        self.outcomes.set_changes(self._drifts.changes())

    def _tell(self, drifts: Sequence[Drift]) -> None:
        """Count and log drifts that this replica was the first to find."""
        for drift in drifts:
            self._metrics.drifts.labels(drift.model, drift.kind).inc()
            _log.warning(
                "%s of %s has changed silently: %+.2f from row %d of its log on",
                drift.kind, drift.model, drift.shift, drift.since,
            )  # fmt: skip

    def read_pool(self) -> None:
        """Route by the pool as it is in the database from now on; any thread may call it, as one that changed the pool does."""
        with self._pool_lock:
            revision = self._pool.revision()
            if revision != self._revision:
                self.pool_view = self._pool_view_of(self._pool.list())
                self._revision = revision
                for router in self.serving.routers if self.serving is not None else ():
                    router.set_models(self.pool_view.cards)

    def _poll_champion(self, now: float) -> None:
        self._wanted = self._snapshots.champion_version()
        served = self.serving.router.snapshot.version if self.serving else None
        if served is not None:
            self._rival.poll(served)
        if self._wanted == served:
            self._degraded_reason = None
        elif self.serving is not None and self._wanted in [router.snapshot.version for router in self.serving.routers]:
            self._serve(replace(self.serving, router=self.serving.routers[1], on_trial=None))  # the trial was won
        elif self._wanted is not None and self._building is None and now >= self._next_try:
            self._building = self._builder.submit(self._build, self._wanted)
            self._building.add_done_callback(lambda _: self.wake())

    def _build(self, version: int) -> Serving:
        """A router of snapshot ``version``, at the head of the log; in the builder thread."""
        if self._encoder is None:
            self._encoder = self._load_encoder()
        try:
            return self._build_exactly(version)
        except SnapshotCorrupt as error:
            if self.serving is not None:
                raise
            self._degraded_reason = error.message
            return self._build_fallback(error)

    def _build_exactly(self, version: int) -> Serving:
        assert self._encoder is not None, "the encoder is loaded before any router"
        snapshot = self._snapshots.load(version)
        if snapshot.encoder != self._encoder.fingerprint:
            raise InvalidInput(
                f"snapshot {version} reads the embeddings of {snapshot.encoder!r}, this replica makes those of "
                f"{self._encoder.fingerprint!r}; run `thalweg refresh`, or set THALWEG_ENCODER back",
                param="THALWEG_ENCODER",
            )
        router = Router(snapshot, self.pool_view.cards, outcomes=self.outcomes)
        pages = LogPages(self._database, self._feedback, self._encoder)
        catch_up = CatchUp(pages, SetAsideStore(self._database))
        catch_up.finish([router])
        return Serving(self._encoder, router, catch_up)

    def _build_fallback(self, corrupt: SnapshotCorrupt) -> Serving:
        """A router of the newest former champion that can be read."""
        former = [row for row in self._snapshots.list() if row.status == "retired" and row.archived_at is None]
        for row in sorted(former, key=lambda row: row.version, reverse=True):
            try:
                return self._build_exactly(row.version)
            except SnapshotCorrupt:
                continue
        raise corrupt

    def _swap(self, now: float) -> None:
        """Serve the router that was built, if it is done."""
        if self._building is None or not self._building.done():
            return
        built, self._building = self._building, None
        try:
            serving = built.result()
        except ThalwegError as error:
            self._degraded_reason, self._next_try = error.message, now + RETRY_S
            _log.error("the champion cannot be served: %s", error.message)
            return
        except BaseException:
            self._next_try = now + RETRY_S
            raise
        if serving.router.snapshot.version != self._wanted:
            self._next_try = now + RETRY_S
        self._serve(serving)

    def _follow_trial(self, now: float) -> None:
        """Take part in the trial that runs, or no longer."""
        if self.serving is None:
            return
        on_trial = self._rival.current(self.serving.on_trial, self._former, now)
        if on_trial is not self.serving.on_trial:
            with self._pool_lock:
                if on_trial is not None:
                    on_trial.router.set_models(self.pool_view.cards)
                self.serving = replace(self.serving, on_trial=on_trial)
        self._former = None

    def _serve(self, serving: Serving) -> None:
        self._former = None if self.serving is None else self.serving.router
        with self._pool_lock:
            serving.router.set_models(self.pool_view.cards)
            self.serving, self._recorded = serving, 0
        self._metrics.snapshot.set(serving.router.snapshot.version)
        self._metrics.swaps.inc()
        _log.info("snapshot %d serves from position %d", serving.router.snapshot.version, serving.router.position)
        self._rival.poll(serving.router.snapshot.version)
