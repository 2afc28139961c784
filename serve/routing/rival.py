"""The other router of the running trial: loaded beside the champion, and learning the same rows, on every replica."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from agent.errors import ThalwegError
from agent.router import Router
from agent.trial import Trial
from agent.types import Decision
from store.trials import TrialStore

RETRY_S = 10.0
"""Wait before another try to load a router that could not be loaded."""

_log = logging.getLogger("thalweg.serve")


@dataclass(slots=True)
class OnTrial:
    """A running trial and the router of its challenger; ``regret`` is what its coins were expected to cost in this replica.

    The jobs, which see the regret of all replicas, end a trial that has used its own up, but only when they look next.
    """

    trial: Trial
    router: Router
    regret: float = 0.0

    def count(self, decision: Decision) -> None:
        """Account for a decision."""
        if decision.trial is not None:
            self.regret += decision.trial.expected_regret

    @property
    def used_up(self) -> bool:
        """Whether no more coins are to be tossed."""
        return self.regret >= self.trial.max_regret


class RivalLoader:
    """Follows the running trial: which other router the champion is compared with.

    Parameters
    ----------
    trials
        What runs is read from here.
    build
        A router of a snapshot, at the head of the log; called in a thread of ``executor``.
    executor
        Where routers are built.
    wake
        Called when one is built.

    Attributes
    ----------
    missing_reason
        Why the champion serves without the trial that runs; None where no trial runs, or it takes part.
    """

    def __init__(
        self, trials: TrialStore, build: Callable[[int], Router], executor: Executor, wake: Callable[[], None]
    ) -> None:
        self._trials = trials
        self._build = build
        self._executor = executor
        self._wake = wake
        self._wanted: Trial | None = None
        self._building: tuple[Trial, Future[Router]] | None = None
        self._next_try = 0.0
        self.missing_reason: str | None = None

    def poll(self, champion: int) -> None:
        """Read what runs beside the snapshot that serves: a trial of another champion does not."""
        running = self._trials.running()
        self._wanted = running.trial if running is not None and running.champion == champion else None
        if self._wanted is None:
            self.missing_reason = None

    def current(self, serving: OnTrial | None, former: Router | None, now: float) -> OnTrial | None:
        """What is to run beside the champion now.

        Parameters
        ----------
        serving
            What runs at the moment.
        former
            The router that served before, at the head of the log too: a hold-back needs it at once.
        now
            Of a monotonic clock, in seconds.
        """
        wanted = self._wanted
        if wanted is None or (serving is not None and serving.trial == wanted):
            return serving if wanted is not None else None
        if former is not None and former.snapshot.version == wanted.challenger:
            return self._loaded(wanted, former)
        if self._building is None:
            if now >= self._next_try:
                built = self._executor.submit(self._build, wanted.challenger)
                built.add_done_callback(lambda _: self._wake())
                self._building = wanted, built
            return None
        trial, built = self._building
        if not built.done():
            return None
        self._building = None
        try:
            router = built.result()
        except ThalwegError as error:
            self.missing_reason, self._next_try = (
                f"trial {trial.id} runs without this replica: {error.message}",
                now + RETRY_S,
            )
            _log.error("%s", self.missing_reason)
            return None
        except BaseException:
            self.missing_reason, self._next_try = f"trial {trial.id} runs without this replica", now + RETRY_S
            raise
        return self._loaded(wanted, router) if trial == wanted else None

    def _loaded(self, trial: Trial, router: Router) -> OnTrial:
        self.missing_reason = None
        _log.info("trial %d: snapshot %d beside champion %d", trial.id, trial.challenger, trial.champion)
        return OnTrial(trial, router)
