"""Routing of live requests: encode, route, record; a decision is durable before anybody acts on it."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np

from agent.choice.limiter import ExplorationLimiter
from agent.errors import NoCandidate
from agent.trial import route_on_trial
from agent.types import Decision, RouteRequest
from serve.errors import ModelUnavailable, NotReady
from serve.metrics import Metrics
from serve.routing.follower import Follower, Serving
from store.columns import Clock, utc_now
from store.decisions import DecisionLog, DecisionRecord
from store.prompts import canonical

AUTO = "auto"
"""The model name by which clients ask to be routed."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A decision and the id under which it is recorded."""

    id: str
    decision: Decision


class LiveRouter:
    """Routes requests with the router that serves at the moment.

    Encoding and routing share one thread: the encoder releases the GIL, the event loop stays free, and the random
    generator has one user.

    Parameters
    ----------
    follower
        Keeps the router up to date.
    decisions
        Where decisions are written.
    metrics
        Where they are counted.
    rng
        What exploration draws from.
    limiter
        How much each API key may explore.
    clock
        Read once a decision.
    """

    def __init__(
        self,
        follower: Follower,
        decisions: DecisionLog,
        metrics: Metrics,
        rng: np.random.Generator,
        limiter: ExplorationLimiter,
        clock: Clock = utc_now,
    ) -> None:
        self._follower = follower
        self._decisions = decisions
        self._metrics = metrics
        self._rng = rng
        self._limiter = limiter
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="route")

    async def route(
        self,
        request: RouteRequest,
        kind: Literal["chat", "route"],
        key: str,
        *,
        session: str | None = None,
        requested_model: str = AUTO,
    ) -> Routed:
        """Choose a model for ``request``; returns once the decision is committed.

        Parameters
        ----------
        kind
            Whether the model is called then, or only the decision was asked for.
        key
            Name of the API key.
        session
            The client's name for the conversation.
        requested_model
            As the client wrote it.

        Raises
        ------
        UnknownModel
            The request names a model that the pool does not hold.
        NoCandidate
            No model can take it.
        StoreUnavailable
            No router is loaded, or the decision could not be written.
        """
        serving = self.serving
        for name in request.candidates or ():
            self._follower.pool_view.get(name, param="thalweg.candidates" if requested_model == AUTO else "model")
        start = time.perf_counter()

        def decide() -> tuple[Routed, Future[None]]:
            router = serving.router
            affordable = self._limiter.affordable(router.n_scores(), router.position)
            decision = self._decide(serving, replace(request, affordable=affordable), self._limiter.may_explore(key))
            self._limiter.count(key, decision)
            now = self._clock()
            record = DecisionRecord(
                id=decision_id(now),
                created_at=now,
                decision=decision,
                encoder=serving.encoder.fingerprint,
                prompt=canonical(request.turns),
                key=key,
                session=session,
                cost_quality_tradeoff=request.cost_quality_tradeoff,
                kind=kind,
                requested_model=requested_model,
            )
            return Routed(record.id, decision), self._decisions.append(record)

        routed, written = await asyncio.get_running_loop().run_in_executor(self._thread, decide)
        self._metrics.routing.observe(time.perf_counter() - start)
        self._metrics.decisions.labels(routed.decision.model, kind, str(routed.decision.explored).lower()).inc()
        if (choice := routed.decision.trial) is None:
            self._metrics.exploration_regret.labels(key).inc(routed.decision.exploration_regret)
        else:
            self._metrics.trial_decisions.labels(choice.trial, choice.side(routed.decision.model)).inc()
            self._metrics.trial_regret.labels(choice.trial).inc(choice.expected_regret)
        await asyncio.wrap_future(written)
        return routed

    @property
    def serving(self) -> Serving:
        """The router that serves and its encoder; raises `NotReady`."""
        serving = self._follower.serving
        if serving is None:
            raise NotReady(
                f"no router is loaded: {self._follower.degraded_reason or self._follower.unavailable_reason}"
            )
        return serving

    def _decide(self, serving: Serving, request: RouteRequest, may_explore: bool) -> Decision:
        encoded, on_trial = serving.encoder.encode([request.turns])[0], serving.on_trial
        try:
            if on_trial is None or on_trial.used_up:
                return serving.router.route(
                    encoded, replace(request, explore=request.explore and may_explore), self._rng
                )
            decision = route_on_trial(
                serving.router, on_trial.router, on_trial.trial, encoded, request, self._rng, explore=may_explore
            )
            on_trial.count(decision)
            return decision
        except NoCandidate as error:
            if any(card.available for card in self._follower.pool_view.cards):
                raise
            raise ModelUnavailable(
                f"{error.message} (no model of the pool can be called now: GET /v1/models says what each lacks)"
            ) from error

    def close(self) -> None:
        """End the routing thread."""
        self._thread.shutdown()


def decision_id(now: datetime) -> str:
    """A new id; ids sort by the millisecond in which they were made."""
    return f"d-{int(now.timestamp() * 1000):012x}{secrets.token_hex(8)}"
