"""Run one policy on one stream, step by step, and record a `Trace`."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from agent.types import Array
from jobs.replay.policy import Feedback, Policy, PolicyChoice, PolicyEvent, PolicyFactory, Probing, Prompt
from jobs.replay.scenario import Change
from jobs.replay.stream import Stream


@dataclass(frozen=True, slots=True)
class Trace:
    """What one policy did in one run of n steps.

    Parameters
    ----------
    model
        (n,) column of the chosen model.
    explored
        (n,) 1 where another model's expected utility was higher, else 0; NaN where the policy does not report it.
    quality, cost
        (n,) true score and USD of the chosen model; the cost is NaN where unknown.
    best
        (n,) highest true score in the pool.
    tasks
        (n,) number of tasks that the policy distinguished.
    learned
        (f, 2) step at which a score was learned, and step of the choice that it belongs to.
    events
        The policy's events, each with its step.
    decide_us, learn_us
        Median time of a choice and of learning a score, in microseconds.
    """

    model: NDArray[np.int64]
    explored: Array
    quality: Array
    cost: Array
    best: Array
    tasks: NDArray[np.int64]
    learned: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    events: tuple[tuple[int, PolicyEvent], ...] = ()
    decide_us: float = 0.0
    learn_us: float = 0.0


def run(stream: Stream, factory: PolicyFactory, progress: Callable[[float], None] = lambda share: None) -> Trace:
    """Route ``stream`` by the policy that ``factory`` makes; ``progress`` gets the share done."""
    policy = factory(stream.start())
    pools = stream.pools()
    announced = {c.step: c for c in stream.scenario.degrades if stream.scenario.announced}
    waiting: deque[tuple[int, Feedback]] = deque()
    choices: list[PolicyChoice] = []
    outcomes: list[tuple[Prompt, PolicyChoice, float]] = []
    tasks: list[int] = []
    learned: list[tuple[int, Feedback]] = []
    events: list[tuple[int, PolicyEvent]] = []
    decide_s: list[float] = []
    learn_s: list[float] = []
    pool: Sequence[str] = ()
    for step in range(len(stream)):
        if step in pools:
            joined = [model for model in pools[step] if model not in pool] if step else []
            pool = pools[step]
            policy.set_models(pool)
            known = len(policy.events)
            _probe(policy, stream, step, joined)
            events.extend((step, event) for event in policy.events[known:])
        if step in announced:
            policy = _rebuild(stream, factory, announced[step], [feedback for _, feedback in learned], pool)
            for outcome in outcomes:
                policy.learn_outcome(*outcome)
        prompt, scored = stream.prompt(step), stream.scored(step, pool)
        with _timed(decide_s):
            choice = policy.choose(prompt, scored)
        choices.append(choice)
        cost = float(stream.costs[step, stream.models.index(choice.model)])
        if not math.isnan(cost):
            outcomes.append((prompt, choice, cost))
            policy.learn_outcome(*outcomes[-1])
        tasks.append(policy.tasks)
        feedback = stream.feedback(step, choice)
        if feedback is not None:
            waiting.append((step + stream.scenario.delay, feedback))
        while waiting and waiting[0][0] <= step:
            feedback = waiting.popleft()[1]
            known = len(policy.events)
            with _timed(learn_s):
                policy.learn_one(feedback)
            learned.append((step, feedback))
            events.extend((step, event) for event in policy.events[known:])
        if step % 50 == 0:
            progress(step / len(stream))
    return replace(
        _trace(stream, np.array([stream.models.index(c.model) for c in choices], np.int64)),
        explored=np.array([c.explored for c in choices], np.float64),  # None becomes NaN
        tasks=np.array(tasks, np.int64),
        learned=np.array([(at, feedback.step) for at, feedback in learned], np.int64).reshape(-1, 2),
        events=tuple(events),
        decide_us=_median_us(decide_s),
        learn_us=_median_us(learn_s),
    )


def _probe(policy: Policy, stream: Stream, step: int, joined: Sequence[str]) -> None:
    """Let a policy ask the models that have ``joined`` at this step, as many prompts as the scenario allows."""
    count = stream.scenario.probes
    if count and isinstance(policy, Probing):
        for model in joined:
            policy.probe(model, stream.known(step, model), count, partial(stream.probed, model))


def run_fixed(stream: Stream) -> Trace:
    """The trace of the single best model, chosen in hindsight; another model where it has no score."""
    known = np.where(np.isfinite(stream.truth), 0.0, -1.0)
    known[:, stream.models.index(stream.best_fixed())] += 0.5
    return _trace(stream, known.argmax(axis=1))


def _trace(stream: Stream, chosen: NDArray[np.int64]) -> Trace:
    """The trace of choosing these columns, (n,)."""
    n = len(stream)
    return Trace(
        model=chosen,
        explored=np.full(n, np.nan),
        quality=stream.truth[np.arange(n), chosen],
        cost=stream.costs[np.arange(n), chosen],
        best=stream.best(),
        tasks=np.zeros(n, np.int64),
    )


def _rebuild(
    stream: Stream, factory: PolicyFactory, change: Change, learned: Sequence[Feedback], pool: Sequence[str]
) -> Policy:
    """A new policy that learns the same feedback with the degraded model's scores lowered by the change's delta."""
    policy = factory(stream.start(announced=True))
    for feedback in learned:
        feedback = replace(feedback, choice=replace(feedback.choice, trial=None))  # of another policy's trials
        if feedback.choice.model == change.model:
            # What the decision expected of the model is no longer what would be expected.
            choice = replace(feedback.choice, expected=float("nan"))
            feedback = replace(feedback, choice=choice, score=max(feedback.score - change.delta, 0.0))
        policy.learn_one(feedback)
    policy.set_models(pool)
    return policy


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def _median_us(seconds: list[float]) -> float:
    return 1e6 * float(np.median(seconds)) if seconds else 0.0
