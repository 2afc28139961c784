"""A week of traffic by a simulated clock: what the store holds, what the jobs do, and how well is routed.

``python -m tests.benchmarks.week --days 7 --rate .25 --keep-decisions 62500 --plot docs/week.png`` gives the table of
`docs/scale.md`.

What serves and what works are the real parts on a real SQLite file: `LiveRouter` routes each request by itself and writes it
through `DecisionLog` and `GroupCommitter`, a `Follower` learns the feedback log and swaps snapshots, a `Timetable` requests,
claims and judges, and runs are done by `run_job_in`. Only time, prompts and scores are made up: the clock is an argument of
all of them, two simulated minutes are one step, and a job takes no simulated time.

Prompts are drawn from an endless set in clusters (`made_traffic`), a fifth of them from a thousand popular ones. A model's
talent is its chance of a good answer in a cluster. After three sevenths of the time the model that is best most often loses
`FALL` of its talents silently; after five sevenths the last model joins. A share of the answers is scored some minutes later,
half of them by a judge, half by users, of whom every other one is new.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
import psutil
from sqlalchemy import func, select, text

from agent.choice.limiter import ExplorationLimiter
from agent.encoding import features
from agent.encoding.encoder import Encoder
from agent.types import Array, Encoded, ModelCard, RouteRequest, Source, Turn
from jobs.context import JobContext
from jobs.refresh.seed import ensure_champion
from jobs.schedule.timetable import Timetable
from jobs.schedule.worker import run_job_in
from jobs.settings import JobSettings
from serve.metrics import Metrics
from serve.providers.openai import OpenAIProvider
from serve.routing.follower import Follower
from serve.routing.live import LiveRouter
from serve.routing.pool_view import PoolView
from store.decisions import DecisionLog, Outcome
from store.drifts import DriftStore
from store.feedback import FeedbackEvent
from store.pool.file import PoolModel, Provider
from store.pool.models import ModelPool
from store.runs import JobRuns
from store.snapshots import DEMOTED, SnapshotStore
from store.tables import Base, DecisionTable, DriftTable, FeedbackTable, PromptTable, TrialTable
from store.trials import TrialStore
from tests.benchmarks.made_traffic import CENTRES, CLUSTERS, DIMENSION, TALENT, made_cards

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
STEP_S = 120.0
"""Simulated seconds between two looks of the replica and of the timetable, which take 0.25 s and 5 s in earnest."""

NOISE = 0.8
"""Length of what sets a prompt apart from its cluster, whose centre has length 1."""

POPULAR, REPEATED = 1000, 0.2
"""Popular prompts, and the share of the requests that repeat one of them."""

REGULARS = 500
"""Users who come again."""

DELAY_S = 600.0
"""Mean time until a score comes in."""

FALL = 0.35
FALLS_AT, JOINS_AT = 3 / 7, 5 / 7
KEYS = 5
CARDS = made_cards()
NEWCOMER = CARDS[-1]
FALLEN = int(np.bincount(TALENT[:, :-1].argmax(axis=1)).argmax())


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class MadeEncoder:
    """Encodes the prompts of `prompt` to points around the centre of their cluster, other texts to random points."""

    fingerprint, dimension = "made-week", DIMENSION

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """By the last turn."""
        return [self._one(turns) for turns in conversations]

    def _one(self, turns: Sequence[Turn]) -> Encoded:
        content = turns[-1].text
        made = re.match(r"prompt (\d+) ", content)
        vector = np.random.default_rng(crc32(content.encode())).standard_normal(DIMENSION) / np.sqrt(DIMENSION)
        if made is not None:
            vector = CENTRES[cluster(int(made[1]))] + NOISE * vector
        return Encoded((vector / np.linalg.norm(vector)).astype(np.float32), features.features(turns), 20)


def cluster(number: int) -> int:
    """Of a made-up prompt."""
    return crc32(str(number).encode()) % CLUSTERS


def prompt(number: int) -> str:
    """The text of a made-up prompt: its number, and words of its cluster."""
    words, own = Random(number), cluster(number)
    return f"prompt {number} " + " ".join(f"word{own}x{words.randrange(40)}" for _ in range(12))


class Inline(Executor):
    """Does at once, in the calling thread, what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class MadeContext(JobContext):
    """A job's context with `MadeEncoder`."""

    @cached_property
    def encoder(self) -> Encoder:
        """In place of the configured one."""
        return MadeEncoder()


@dataclass(slots=True)
class Hour:
    """The state after ``day`` days; sizes in bytes, counts since the beginning, ``quality`` and ``best`` of the last hour.

    ``quality`` is the mean talent of the chosen models, ``best`` that of the best models of the pool.
    """

    day: float
    decisions: int
    store_bytes: int
    wal_bytes: int
    rows: dict[str, int]
    snapshots: dict[str, int]
    with_weights: int
    refreshes: dict[str, int]
    trials: dict[str, int]
    demotions: int
    drifts: int
    quality: float
    best: float
    rss_bytes: int
    wall_s: float
    cpu_s: float
    bytes_by_table: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


class Week:
    """The simulation.

    Parameters
    ----------
    settings
        Of the jobs; their home is where the store is made.
    days, rate, feedback
        Simulated days, decisions a second, and the share of them that is scored.
    repeated
        Share of the requests with a popular prompt.
    seed
        Of traffic and exploration.
    """

    def __init__(
        self,
        settings: JobSettings,
        *,
        days: float,
        rate: float,
        feedback: float,
        repeated: float = REPEATED,
        seed: int = 0,
    ) -> None:
        self._days, self._rate, self._share, self._repeated = days, rate, feedback, repeated
        self.clock = clock = Clock(BEGIN)
        self._rng = np.random.default_rng(seed)
        self._next = 0  # number of the next prompt that is new
        self._users = 0
        self._arrivals: deque[datetime] = deque()
        self._waiting: list[tuple[datetime, int, FeedbackEvent]] = []
        self._decided, self._quality, self._best = 0, 0.0, 0.0
        self._since_hour = 0
        self.hours: list[Hour] = []

        self.ctx = ctx = MadeContext(settings, clock=clock)
        self.database = database = ctx.database
        ModelPool(database, clock).sync(
            [_in_pool(card) for card in CARDS[:-1]]
        )  # before anything reads the packaged one
        ensure_champion(database, ctx.cached_encoder, ctx.cards(), seed=seed, clock=clock)
        self._decisions = DecisionLog(database, ctx.writer, clock=clock)
        provider = OpenAIProvider({}, timeout_s=1.0, connect_timeout_s=1.0)  # never called
        metrics = Metrics()
        self._follower = Follower(
            database=database,
            snapshots=ctx.snapshots,
            feedback=ctx.feedback,
            trials=TrialStore(database),
            pool=ctx.pool,
            drifts=DriftStore(database, clock),
            load_encoder=lambda: ctx.encoder,
            pool_view_of=lambda models: PoolView(models, {"openai": provider}),
            metrics=metrics,
            monotonic=lambda: (clock() - BEGIN).total_seconds(),
            builder=Inline(),
        )
        self._live = LiveRouter(
            self._follower,
            self._decisions,
            metrics,
            np.random.default_rng([seed, 1]),
            ExplorationLimiter(),
            clock=self._arrivals.popleft,
        )
        self._timetable = Timetable(database, settings, lambda run: run_job_in(ctx, run), clock)

    def close(self) -> None:
        """Close what was opened."""
        self._timetable.stop()
        self._follower.stop()
        self._live.close()
        self.ctx.__exit__(None, None, None)

    async def run(self, report: Callable[[Hour], object] = lambda hour: None) -> list[Hour]:
        """Let the time pass; ``report`` is called after each hour."""
        started, used = time.perf_counter(), time.process_time()
        steps, joined = round(self._days * 86_400 / STEP_S), False
        self._follow()
        for step in range(1, steps + 1):
            begin, count = self.clock.now, round(self._rate * STEP_S * step) - self._decided
            at = [begin + timedelta(seconds=STEP_S * (i + 0.5) / count) for i in range(count)]
            await self._requests(at)
            self.clock.now = BEGIN + timedelta(seconds=step * STEP_S)
            if not joined and step >= JOINS_AT * steps:
                joined = True
                self.ctx.pool.add(_in_pool(NEWCOMER), check=False)
            await self._scores()
            self._follow()
            self._jobs()
            if step % round(3600 / STEP_S) == 0:
                hour = self._hour(time.perf_counter() - started, time.process_time() - used)
                self.hours.append(hour)
                report(hour)
        return self.hours

    def talent(self, at: datetime) -> Array:
        """(clusters, models) chance of a good answer."""
        if at - BEGIN < timedelta(days=FALLS_AT * self._days):
            return TALENT
        talent = TALENT.copy()
        talent[:, FALLEN] = np.maximum(talent[:, FALLEN] - FALL, 0.05)
        return talent

    async def _requests(self, at: Sequence[datetime]) -> None:
        """Route a request at each time, all of them in flight together, and wait for what was written."""
        numbers = [self._number() for _ in at]
        keys = [f"key-{i}" for i in self._rng.integers(KEYS, size=len(at))]
        self._arrivals.extend(at)
        routed = await asyncio.gather(
            *(
                self._live.route(RouteRequest((Turn("user", prompt(n)),)), "chat", key)
                for n, key in zip(numbers, keys, strict=True)
            )
        )
        talent = self.talent(at[-1]) if at else TALENT
        column = {card.name: i for i, card in enumerate(CARDS)}
        pool = [column[card.name] for card in self._follower.pool_view.cards]
        done = []
        for when, number, key, answer in zip(at, numbers, keys, routed, strict=True):
            good = talent[cluster(number)]
            quality = float(good[column[answer.decision.model]])
            self._quality += quality
            self._best += float(good[pool].max())
            outcome = Outcome(status="ok", latency_ms=800.0, input_tokens=20, output_tokens=200, cost_usd=4e-4)
            done.append(self._decisions.complete(answer.id, outcome))
            if self._rng.random() < self._share:
                self._score_later(when, answer.id, quality, key)
        self._decided += len(at)
        self._since_hour += len(at)
        for future in done:
            future.result()

    def _number(self) -> int:
        if self._rng.random() < self._repeated:
            return int(POPULAR * self._rng.random() ** 2)
        self._next += 1
        return POPULAR + self._next

    def _score_later(self, when: datetime, decision: str, quality: float, key: str) -> None:
        source: Source = "user"
        if self._rng.random() < 0.5:
            source, rater, score = "judge", "judge", float(np.clip(quality + 0.15 * self._rng.standard_normal(), 0, 1))
        else:
            rater, score = f"user-{self._user()}", float(self._rng.random() < quality)
        due = when + timedelta(seconds=self._rng.exponential(DELAY_S))
        event = FeedbackEvent(decision, score, source, rater, key=key)
        heapq.heappush(self._waiting, (due, self._decided + len(self._waiting), event))

    def _user(self) -> int:
        if self._rng.random() < 0.5:
            return int(self._rng.integers(REGULARS))
        self._users += 1
        return REGULARS + self._users

    async def _scores(self) -> None:
        """Post the scores that are due."""
        events = []
        while self._waiting and self._waiting[0][0] <= self.clock.now:
            events.append(heapq.heappop(self._waiting)[2])
        if events:
            await asyncio.wrap_future(self.ctx.feedback.append(events))

    def _follow(self) -> None:
        """What the replica's thread does until it has nothing to learn."""
        while self._follower.follow():
            pass

    def _jobs(self) -> None:
        """What the timetable's scheduler calls."""
        self._timetable.reap()
        self._timetable.judge()
        self._timetable.request_due()
        self._timetable.request_early()
        while (work := self._timetable.claim()) is not None:
            work.result()

    def _hour(self, wall_s: float, cpu_s: float) -> Hour:
        day = (self.clock.now - BEGIN).total_seconds() / 86_400
        path = self.ctx.settings.home / "thalweg.db"
        wal = path.with_name(path.name + "-wal")
        snapshots = SnapshotStore(self.database).list()
        runs = JobRuns(self.database).list(limit=1_000_000)
        refreshes = [run for run in runs if run.job == "refresh"]
        n = max(self._since_hour, 1)
        with self.database.session() as session:
            rows = {
                name: session.scalar(select(func.count()).select_from(table)) or 0
                for name, table in Base.metadata.tables.items()
            }
            states = session.execute(select(TrialTable.kind, TrialTable.state)).all()
        hour = Hour(
            day=day,
            decisions=self._decided,
            store_bytes=path.stat().st_size,
            wal_bytes=wal.stat().st_size if wal.exists() else 0,
            rows=rows,
            snapshots=dict(Counter(row.status for row in snapshots)),
            with_weights=sum(row.archived_at is None for row in snapshots),
            refreshes=dict(Counter(run.state for run in refreshes)),
            trials={"started": len(states)} | Counter(state for _, state in states),
            demotions=sum(DEMOTED in row.report for row in snapshots),
            drifts=rows[DriftTable.__tablename__],
            quality=self._quality / n,
            best=self._best / n,
            rss_bytes=psutil.Process().memory_info().rss,
            wall_s=wall_s,
            cpu_s=cpu_s,
        )
        self._quality, self._best, self._since_hour = 0.0, 0.0, 0
        if round(day * 24) % 24 == 0 or day >= self._days - 1e-9:
            hour.reasons = dict(Counter(_kind(str(run.params.get("why"))) for run in refreshes if run.state == "done"))
            with self.database.connect() as connection:
                query = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name"
                hour.bytes_by_table = {name: size for name, size in connection.execute(text(query))}
        return hour


def _in_pool(card: ModelCard) -> PoolModel:
    return PoolModel(card, Provider("openai", "http://127.0.0.1:9/v1"))


def _kind(why: str) -> str:
    """A reason without its figures."""
    if "lie close together" in why:
        return "prompts far from every task"
    return next((kind for kind in ("new feedback", "has changed", "is new") if kind in why), why)


HEAD = (
    "day | decisions | store MB | WAL MB | decisions kept | feedback | prompts | snapshots (with weights) | refreshes "
    "| trials: started, promoted, rejected, let go, ended | demotions | drifts | quality | best | RSS MB | wall s | CPU s"
)


def line(hour: Hour, last: Sequence[Hour]) -> str:
    """A row of the table; quality is that of the hours ``last``."""
    t = hour.trials
    mean = [np.mean([getattr(h, name) for h in last]) for name in ("quality", "best")]
    cells = [
        f"{hour.day:.2g}", f"{hour.decisions:,}", f"{hour.store_bytes / 1e6:,.0f}", f"{hour.wal_bytes / 1e6:.0f}",
        *(f"{hour.rows[of.__tablename__]:,}" for of in (DecisionTable, FeedbackTable, PromptTable)),
        f"{sum(hour.snapshots.values())} ({hour.with_weights})", str(hour.refreshes.get("done", 0)),
        ", ".join(str(t.get(state, 0)) for state in ("started", "promoted", "rejected", "let go", "ended")),
        str(hour.demotions), str(hour.drifts), *(f"{m:.3f}" for m in mean), f"{hour.rss_bytes / 1e6:,.0f}",
        f"{hour.wall_s:,.0f}", f"{hour.cpu_s:,.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def summary(hours: Sequence[Hour]) -> str:
    """What is there at the end, and why refreshes were called."""
    last = hours[-1]
    sizes = sorted(last.bytes_by_table.items(), key=lambda item: -item[1])
    return "\n".join(
        [
            "rows: " + ", ".join(f"{name} {n:,}" for name, n in last.rows.items() if n),
            "MB: " + ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in sizes if size >= 1e5),
            f"snapshots: {last.snapshots}; refreshes: {last.refreshes}, called by {last.reasons}",
            f"trials: {last.trials}; demotions: {last.demotions}; drifts: {last.drifts}",
        ]
    )


def plot(hours: Sequence[Hour], path: Path) -> None:
    """Four panels over days."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    days = [hour.day for hour in hours]
    figure, (size, rows, jobs, quality) = pyplot.subplots(4, 1, figsize=(8, 9), sharex=True, layout="constrained")
    size.plot(days, [(h.store_bytes + h.wal_bytes) / 1e6 for h in hours], label="store and its log")
    size.plot(days, [h.rss_bytes / 1e6 for h in hours], label="memory of the process")
    size.set_ylabel("MB")
    for name in (DecisionTable.__tablename__, FeedbackTable.__tablename__, PromptTable.__tablename__):
        rows.plot(days, [h.rows[name] / 1000 for h in hours], label=name)
    rows.set_ylabel("thousand rows")
    counts = {
        "refreshes": [h.refreshes.get("done", 0) for h in hours],
        "trials": [h.trials["started"] for h in hours],
        "demotions": [h.demotions for h in hours],
        "drifts": [h.drifts for h in hours],
        "snapshots with weights": [h.with_weights for h in hours],
    }
    for name, values in counts.items():
        jobs.step(days, values, where="post", label=name)
    jobs.set_ylabel("number so far")
    quality.plot(days, [h.quality for h in hours], label="of the chosen models")
    quality.plot(days, [h.best for h in hours], label="of the best models", color="grey")
    quality.set_ylabel("mean true quality")
    quality.set_xlabel("days")
    for axes in (size, rows, jobs):
        axes.set_ylim(bottom=0)
    for axes in (size, rows, jobs, quality):
        for share, what in ((FALLS_AT, "a model gets worse"), (JOINS_AT, "a model joins")):
            axes.axvline(share * days[-1], color="lightgrey", linewidth=1, zorder=0)
            if axes is size:
                axes.annotate(
                    what, (share * days[-1], 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=8
                )
        axes.legend(fontsize=8, loc="best", frameon=False)
    figure.savefig(path, dpi=90)


def settings_of(home: Path, changes: dict[str, Any] | None = None) -> JobSettings:
    """The default settings, with a store in ``home``."""
    return JobSettings.from_env({"THALWEG_HOME": str(home)}).model_copy(update=changes or {})


async def simulate(given: argparse.Namespace, home: Path) -> list[Hour]:
    """The simulation of the command's arguments, printing a row a day."""
    kept = {"retention_feedback": given.keep_feedback, "retention_decisions": given.keep_decisions}
    settings = settings_of(home, {name: value for name, value in kept.items() if value is not None})
    about = {name: getattr(given, name) for name in ("days", "rate", "feedback", "repeated", "seed")}
    week = Week(settings, **about)
    print(HEAD, flush=True)

    def report(hour: Hour) -> None:
        hours = len(week.hours)
        if hours % 24 == 0 or hours == round(given.days * 24) or given.hourly:
            print(line(hour, week.hours[-24:]), flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps([asdict(h) for h in week.hours]))

    try:
        return await week.run(report)
    finally:
        week.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--rate", type=float, default=0.25, help="decisions a second")
    parser.add_argument("--feedback", type=float, default=0.1, help="share of the decisions that is scored")
    parser.add_argument("--repeated", type=float, default=REPEATED, help="share of requests with a popular prompt")
    parser.add_argument("--keep-feedback", type=int, help="rows of feedback that are kept, instead of the default")
    parser.add_argument("--keep-decisions", type=int, help="decisions without feedback that are kept")
    parser.add_argument("--store", type=Path, help="folder of the store; else one that is deleted at the end")
    parser.add_argument("--json", type=Path, help="where every hour's figures are written")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hourly", action="store_true", help="print a row an hour")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        hours = asyncio.run(simulate(given, given.store or Path(folder)))
    print(summary(hours))
    if given.plot is not None:
        plot(hours, given.plot)


if __name__ == "__main__":
    main()
