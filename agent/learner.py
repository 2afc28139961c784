"""What a router has learned since its snapshot: the rows of the feedback log, in order, each applied whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from agent.estimate import Estimator
from agent.feedback.checks import defect
from agent.feedback.ledger import Ledger, LedgerChange
from agent.index.neighbours import Neighbours
from agent.index.prompts import PromptIndex
from agent.observations import Observation, SetAside
from agent.online.estimator import OnlineConfig, OnlineEstimator, PromptEffect, ResidualChange, prompt_effect
from agent.online.prior import OWN_VARIANCE, Prior
from agent.types import Array, SnapshotEstimate, Vector

_PART = 64
"""Rows whose prompts are estimated together."""

_SEARCHED = 2
"""Prompts among which the most similar one is looked for."""

_YIELD_S, _BURST = 0.003, 8
"""While there is always a reader, so many rows are learned after each wait of this length."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What a row of the log changes: in the ledger, the online estimator, and its prompt's remembered score of a model.

    ``point`` (w,) is where its prompt lies, ``task`` and ``neighbourhood`` what it belongs to.
    """

    ledger: LedgerChange
    online: ResidualChange
    point: Vector
    task: int
    neighbourhood: int


class Learner:
    """Learns from the feedback log.

    Parameters
    ----------
    estimator
        Of the snapshot.
    config
        Of the online estimator.
    memory
        Most prompts remembered at a time, see `agent.index.prompts.PromptIndex`.
    neighbourhoods
        Whether the scores of a neighbourhood count for more than those of its task.

    Attributes
    ----------
    ledger, online, memory
        What is learned: a function of the snapshot and of the rows, in order.
    position
        Of the last row that was learned or set aside.
    n_set_aside
        Rows that were set aside.
    lock
        Held while any of these changes; readers hold it too.

    Notes
    -----
    One thread learns. It alone changes anything, so it reads without the lock.
    """

    def __init__(self, estimator: Estimator, config: OnlineConfig, memory: int, neighbourhoods: bool = True) -> None:
        snapshot = estimator.snapshot
        self._estimator = estimator
        self._encoder = snapshot.encoder
        self._neighbourhoods = neighbourhoods
        self._min_task_probability = config.min_task_probability
        fitted = snapshot.meta["fitted"]
        self._variances = (fitted["prompt"], fitted["noise"]) if "prompt" in fitted else None
        self._residuals: dict[
            str, Array
        ] = {}  # of prompts that the snapshot knows, of all its models; NaN without a score
        self.position = snapshot.position
        self.n_set_aside = 0
        self.lock = threading.Lock()
        self._counting, self._readers = threading.Lock(), 0
        self._idle = threading.Event()  # no reader
        self._idle.set()
        self._burst = 0  # rows to be learned without waiting
        self.online = OnlineEstimator(
            snapshot.models,
            [task.id for task in snapshot.tasks],
            Prior(
                snapshot.tensors["task_covariance"],
                snapshot.tensors["overall_covariance"],
                snapshot.tensors["task_n_scores"],
                snapshot.tensors["task_mean"],
                interaction=float(fitted.get("interaction", OWN_VARIANCE)),
            ),
            config,
            snapshot.meta.get("drift_detectors"),
        )
        self.ledger = Ledger.from_state(
            snapshot.meta.get("ledger"), n_evaluated=snapshot.n_evaluated, optimism=snapshot.optimism
        )
        self.memory = PromptIndex(
            estimator.representation,
            snapshot.meta["indexed_prompts"],
            snapshot.models,
            snapshot.tensors["indexed_scores"],
            memory,
        )

    def learn_many(self, rows: Sequence[Observation | SetAside]) -> list[SetAside]:
        """See `Router.learn_many`."""
        aside = []
        new = [self._checked(row) for row in rows if row.seq > self.position]
        for start in range(0, len(new), _PART):
            part = new[start : start + _PART]
            ratings = [row for row in part if isinstance(row, Observation)]
            estimates, points = self._estimates(ratings), self._points(ratings)
            for row in part:
                self._give_way()
                if isinstance(row, Observation):
                    found = estimates[row.seq]
                    change = found if isinstance(found, SetAside) else self._prepare(row, found, points[row.seq])
                    failed = change if isinstance(change, SetAside) else self._learn(change)
                else:
                    failed = row
                if failed is not None:
                    aside.append(failed)
                    with self.lock:
                        self.position, self.n_set_aside = row.seq, self.n_set_aside + 1
        return aside

    def _give_way(self) -> None:
        """Wait for readers before a row, but for the rows of a burst."""
        if self._burst:
            self._burst -= 1
        elif not self._idle.wait(_YIELD_S):
            self._burst = _BURST - 1

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While it is held, learning waits a moment before each row, so that reading is soon done."""
        with self._counting:
            self._readers += 1
            self._idle.clear()
        try:
            yield
        finally:
            with self._counting:
                self._readers -= 1
                if not self._readers:
                    self._idle.set()

    def neighbourhood(self, nearest: Neighbours) -> int | None:
        """That of a prompt whose nearest in `memory` these are; None where it is in none, or none counts."""
        return self.memory.neighbourhood(nearest) if self._neighbourhoods else None

    def digest(self) -> str:
        """A hash of everything learned since the snapshot: equal on replicas that read the same log."""
        with self.lock:
            ledger = json.dumps(self.ledger.state(), sort_keys=True)
            learned = f"{self.position} {ledger} {self.online.digest()} {self.memory.digest()}"
            return hashlib.sha256(learned.encode()).hexdigest()

    def _checked(self, row: Observation | SetAside) -> Observation | SetAside:
        """The row, set aside where it cannot be learned."""
        if isinstance(row, SetAside):
            return row
        if row.encoder not in ("", self._encoder):
            return SetAside(row.seq, f"its prompt was encoded by {row.encoder}, not by {self._encoder}")
        why = defect(row, self._estimator.dimension, self._estimator.n_features)
        return row if why is None else SetAside(row.seq, why)

    def _estimates(self, rows: Sequence[Observation]) -> dict[int, SnapshotEstimate | SetAside]:
        """Position of each row -> its estimate: what was logged, where this snapshot decided; computed elsewhere."""
        known = {row.seq: logged for row in rows if (logged := self._logged(row)) is not None}
        return known | self._estimated([row for row in rows if row.seq not in known])

    def _logged(self, row: Observation) -> SnapshotEstimate | None:
        """The row's logged estimate, where it is this snapshot's (which has a version) and of every model that is rated."""
        logged, version = row.estimate, self._estimator.snapshot.version
        if logged is None or not version or logged.snapshot != version:
            return None
        return logged if all(logged.quality.get(model, math.nan) >= 0.0 for model in _rated(row)) else None

    def _estimated(self, rows: Sequence[Observation]) -> dict[int, SnapshotEstimate | SetAside]:
        if not rows:
            return {}
        try:
            found, least = self._estimator.estimate_each([row.encoded for row in rows]), self._min_task_probability
            return {row.seq: self._estimator.of_row(found, i, least, _rated(row)) for i, row in enumerate(rows)}
        except Exception as error:  # of any kind, but of one row: the others are learned
            if len(rows) == 1:
                return {rows[0].seq: _raised(rows[0], error)}
            return {seq: found for row in rows for seq, found in self._estimated([row]).items()}

    def _points(self, rows: Sequence[Observation]) -> dict[int, Vector]:
        """Position of each row -> where its prompt lies."""
        found = self._estimator.points([row.encoded for row in rows]) if rows else ()
        return {row.seq: point for row, point in zip(rows, found)}

    def _prepare(self, row: Observation, estimate: SnapshotEstimate, point: Vector) -> _Change | SetAside:
        """What ``row`` changes; what can raise is done here, before anything is changed."""
        try:
            ledger = self.ledger.prepare(row)
            neighbourhood = self._neighbourhood(row, point)
            of = neighbourhood if self._neighbourhoods else None
            effect = self._prompt_effect(row)
            online = self.online.prepare(row, ledger.score, estimate.quality, estimate.tasks, of, effect)
        except Exception as error:  # of any kind: a row must not keep the next ones from being learned
            return _raised(row, error)
        return _Change(ledger, online, point, estimate.task, neighbourhood)

    def _neighbourhood(self, row: Observation, point: Vector) -> int:
        """That of the row's prompt: as its decision found it, where this snapshot decided; the row's own if it founds one."""
        if not self._neighbourhoods:
            return row.seq
        logged, version = row.estimate, self._estimator.snapshot.version
        found = logged.neighbourhood if logged is not None and version and logged.snapshot == version else None
        near = self.memory.known_neighbourhood(row.prompt_id, found)
        if near is None:
            near = self.memory.neighbourhood(self.memory.nearest(point, _SEARCHED))
        return row.seq if near is None else near

    def _prompt_effect(self, row: Observation) -> PromptEffect | None:
        """How much better or worse than expected models do on the row's prompt, by the snapshot's scores of it."""
        scores = self.memory.trained_scores(row.prompt_id) if row.other is None else None
        if scores is None or self._variances is None:
            return None
        residuals = self._residuals.get(row.prompt_id)
        if residuals is None:
            residuals = scores - self._estimator.estimate_each([row.encoded]).quality[0]
            self._residuals[row.prompt_id] = residuals
        others = residuals[np.isfinite(scores) & np.array([model != row.model for model in self._estimator.models])]
        return prompt_effect(others, *self._variances) if len(others) else None

    def _learn(self, change: _Change) -> SetAside | None:
        """Make a change that was prepared since the last one; a posterior is rebuilt aside, then takes the old one's place."""
        row, online = change.online.observation, self.online
        if online.lacks(change.online):
            posterior = online.rebuilt(change.online)
            with self.lock:
                online.adopt(posterior)
        with self.lock:
            try:
                self._apply(change)
            except Exception as error:  # none is known
                return _raised(row, error)
            if not online.outdated:
                self.position = row.seq
                return None
        posterior = online.rebuilt()
        with self.lock:
            online.adopt(posterior)
            self.position = row.seq
        return None

    def _apply(self, change: _Change) -> None:
        row, score = change.online.observation, change.ledger.score
        if row.other is None:
            self.memory.learn_one(
                row.prompt_id, change.point, change.task, row.model, score.value, score.weight,
                neighbourhood=change.neighbourhood, rating=(row.decision_id, row.source, row.rater),
                revises=row.revises is not None,
            )  # fmt: skip
        self.ledger.apply(change.ledger)
        self.online.apply(change.online)


def _rated(row: Observation) -> list[str]:
    return [row.model] if row.other is None else [row.model, row.other]


def _raised(row: Observation, error: Exception) -> SetAside:
    return SetAside(row.seq, f"{type(error).__name__} while it was learned: {error}")
