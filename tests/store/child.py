"""What tests run in other processes, which start from a forkserver that has imported everything already."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from store.database import Database
from store.decisions import DecisionLog, Outcome
from store.feedback import FeedbackEvent, FeedbackLog
from store.runs import JobRuns
from store.writer import GroupCommitter
from tests.store.build import a_record

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.store.child", "tests.serve.child"])


class Child:
    """A process that runs ``verb(line, *arguments)``, where ``line`` is its end of a pipe to the test."""

    def __init__(self, verb: Callable[..., None], *arguments: Any) -> None:
        self.line, theirs = multiprocessing.Pipe()
        self.process = _context.Process(target=verb, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """The child's next message."""
        assert self.line.poll(30), "no message from the child"
        return self.line.recv()

    def join(self) -> None:
        """Wait for it to end well."""
        self.process.join(60)
        assert self.process.exitcode == 0


def start_together(children: list[Child]) -> None:
    """Let children that wait go at the same time."""
    for child in children:
        assert child.receive() == "ready"
    for child in children:
        child.line.send("go")


def _wait(line: Connection) -> None:
    line.send("ready")
    line.recv()


def acknowledge(line: Connection, url: str, count: int) -> None:
    """Append decisions with feedback, send a message when all are acknowledged, then wait to be killed."""
    database = Database.open(url)
    writer = GroupCommitter(database)
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    for i in range(count):
        decisions.append(a_record(f"d{i}")).result()
        feedback.append([FeedbackEvent(f"d{i}", 1.0, "user")]).result()
    line.send("acknowledged")
    signal.pause()


def feed(line: Connection, url: str, rater: str, count: int) -> None:
    """Append feedback on decision ``d0``, three appends in flight."""
    database = Database.open(url)
    writer = GroupCommitter(database, group=2)
    feedback = FeedbackLog(database, writer)
    _wait(line)
    waiting = []
    for i in range(count):
        waiting.append(feedback.append([FeedbackEvent("d0", i / count, "judge", rater)]))
        if len(waiting) == 3:
            waiting.pop(0).result()
    writer.close()


def append_random(line: Connection, url: str, seed: int, count: int, ranked: dict[str, list[str]]) -> None:
    """Append ``count`` random events, one to three at a time and up to four appends in flight.

    Scores, comparisons and revisions by raters of all sources, with and without names, on decisions that others rate too;
    ``ranked`` has the models that each decision's answer can be compared with.
    """
    database = Database.open(url)
    writer = GroupCommitter(database, group=3)
    feedback = FeedbackLog(database, writer)
    rng = random.Random(seed)
    _wait(line)
    waiting = []
    sent = 0
    while sent < count:
        events = [random_event(rng, ranked) for _ in range(min(rng.randint(1, 3), count - sent))]
        sent += len(events)
        waiting.append(feedback.append(events))
        if len(waiting) == 4:
            waiting.pop(0).result()
    writer.close()


def complete(line: Connection, url: str, seed: int, count: int) -> None:
    """Append ``count`` decisions with an outcome and feedback each, which take their lock in one order or the other."""
    database = Database.open(url)
    writer = GroupCommitter(database, group=3)
    decisions, feedback, rng = DecisionLog(database, writer), FeedbackLog(database, writer), random.Random(seed)
    _wait(line)
    waiting: list[Any] = []
    for i in range(count):
        id = f"of-{seed}-{i}"
        waiting.append(decisions.append(a_record(id, model=rng.choice("ab"))))
        for verb in rng.sample(["complete", "rate"], 2):
            if verb == "rate":
                waiting.append(feedback.append([FeedbackEvent(id, 1.0, "user")]))
            else:
                outcome = Outcome(status="ok" if rng.random() < 0.5 else "error", output_tokens=rng.randrange(900))
                waiting.append(decisions.complete(id, outcome, 0.1))
        while len(waiting) > 6:
            waiting.pop(0).result()
    for write in waiting:
        write.result()
    writer.close()


def random_event(rng: random.Random, ranked: dict[str, list[str]]) -> FeedbackEvent:
    """An event on one of the ``ranked`` decisions."""
    decision = rng.choice(list(ranked))
    return FeedbackEvent(
        decision_id=decision,
        score=rng.choice([0.0, 0.5, 1.0, rng.random()]),
        source=rng.choice(["user", "judge", "implicit"]),
        rater=rng.choice(["", "ann", "bob", "eve", "dan"]),
        other=rng.choice(ranked[decision]) if rng.random() < 0.4 else None,
        key=rng.choice(["bootstrap", "partner"]),
    )


def claim(line: Connection, url: str, worker: str, jobs: list[str], total: int) -> None:
    """Claim, finish and request anew until ``total`` runs were made; send each claim with its start and end."""
    runs = JobRuns(Database.open(url))
    _wait(line)
    made: list[tuple[int, str, float, float]] = []
    while True:
        run = runs.claim(jobs, worker)
        if run is None:
            if not any(r.state in ("queued", "running") for r in runs.list(len(jobs) * 2)):
                break
            continue
        began = time.monotonic()
        time.sleep(0.001)
        made.append((run.id, run.job, began, time.monotonic()))
        if run.id <= total:
            runs.request(run.job, {}, worker)
        runs.finish(run.id, {"by": worker})
    line.send(made)


def migrate(line: Connection, url: str) -> None:
    """Open a database."""
    _wait(line)
    Database.open(url).close()
