"""One policy on one world, step by step, and what is remembered of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from agent.types import Array
from jobs.replay.policy import Event, News, Pick, Policy, Start
from jobs.replay.scenario import Change
from jobs.replay.world import World

Maker = Callable[[Start], Policy]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one policy did in one run of n steps.

    Parameters
    ----------
    model
        (n,) column of the chosen model.
    explored
        (n,) 1 where another model was expected to be better, else 0; NaN where the policy does not tell.
    quality, cost
        (n,) true score and USD of the chosen model; the cost is NaN where unknown.
    best
        (n,) highest true score in the pool.
    tasks
        (n,) how many tasks the policy knew.
    heard
        (f, 2) step at which a score was heard, and step of the choice it is about.
    news
        What the policy told of itself, each with its step.
    decide_us, learn_us
        Median time of a choice and of hearing a score, in microseconds.
    """

    model: NDArray[np.int64]
    explored: Array
    quality: Array
    cost: Array
    best: Array
    tasks: NDArray[np.int64]
    heard: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    news: tuple[tuple[int, News], ...] = ()
    decide_us: float = 0.0
    learn_us: float = 0.0


def run(world: World, make: Maker, tell: Callable[[float], None] | None = None) -> Trace:
    """Stream the world past the policy that ``make`` makes; ``tell`` hears the share done."""
    policy = make(world.start())
    pools = world.pools()
    told = {c.step: c for c in world.scenario.degrades if world.scenario.told}
    waiting: deque[tuple[int, Event]] = deque()
    picks: list[Pick] = []
    tasks: list[int] = []
    heard: list[tuple[int, Event]] = []
    news: list[tuple[int, News]] = []
    choosing: list[float] = []
    learning: list[float] = []
    pool: Sequence[str] = ()
    for step in range(len(world)):
        if step in pools:
            pool = pools[step]
            policy.set_models(pool)
        if step in told:
            policy = _retell(world, make, told[step], [event for _, event in heard], pool)
        prompt, scored = world.prompt(step), world.scored(step, pool)
        with _timed(choosing):
            pick = policy.choose(prompt, scored)
        picks.append(pick)
        tasks.append(policy.tasks)
        event = world.feedback(step, pick)
        if event is not None:
            waiting.append((step + world.scenario.delay, event))
        while waiting and waiting[0][0] <= step:
            event = waiting.popleft()[1]
            known = len(policy.news)
            with _timed(learning):
                policy.learn_one(event)
            heard.append((step, event))
            news.extend((step, item) for item in policy.news[known:])
        if tell is not None and step % 50 == 0:
            tell(step / len(world))
    return replace(
        _earned(world, np.array([world.models.index(p.model) for p in picks], np.int64)),
        explored=np.array([np.nan if p.explored is None else p.explored for p in picks], np.float64),
        tasks=np.array(tasks, np.int64),
        heard=np.array([(at, event.step) for at, event in heard], np.int64).reshape(-1, 2),
        news=tuple(news),
        decide_us=_median_us(choosing),
        learn_us=_median_us(learning),
    )


def run_fixed(world: World) -> Trace:
    """The trace of the one model that earns most, known in hindsight; another where that has no score."""
    known = np.where(np.isfinite(world.truth), 0.0, -1.0)
    known[:, world.models.index(world.best_fixed())] += 0.5
    return _earned(world, known.argmax(axis=1))


def _earned(world: World, chosen: NDArray[np.int64]) -> Trace:
    """What choosing these columns earns."""
    n = len(world)
    return Trace(
        model=chosen,
        explored=np.full(n, np.nan),
        quality=world.truth[np.arange(n), chosen],
        cost=world.costs[np.arange(n), chosen],
        best=world.best(),
        tasks=np.zeros(n, np.int64),
    )


def _retell(world: World, make: Maker, change: Change, heard: Sequence[Event], pool: Sequence[str]) -> Policy:
    """The policy as it would be had the model always been what it is from now on: same choices, its scores lowered."""
    policy = make(world.start(retold=True))
    for event in heard:
        if event.pick.model == change.model:
            # What was expected of it then is no longer what would be expected.
            pick = replace(event.pick, expected=float("nan"))
            event = replace(event, pick=pick, score=max(event.score - change.delta, 0.0))
        policy.learn_one(event)
    policy.set_models(pool)
    return policy


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


def _median_us(seconds: list[float]) -> float:
    return 1e6 * float(np.median(seconds)) if seconds else 0.0
