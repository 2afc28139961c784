"""One call to a model: its answer is passed on with the decision added, its outcome is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from agent.errors import ThalwegError, UpstreamTimeout
from serve.errors import error_body
from serve.metrics import Metrics
from serve.providers.base import Provider
from serve.providers.sse import EventAnnotator, Usage, annotate, event
from serve.routing.live import Routed
from store.decisions import DecisionLog, Outcome
from store.pool.file import PoolModel
from store.views import DecisionSummary

_log = logging.getLogger("thalweg.serve")


class Call:
    """A call to the chosen model; its outcome is recorded, whatever it is.

    Parameters
    ----------
    routed
        The decision that this call follows.
    provider, model
        Who answers, and as which model.
    decisions, metrics
        Where the outcome is written and counted.
    """

    def __init__(
        self, routed: Routed, provider: Provider, model: PoolModel, decisions: DecisionLog, metrics: Metrics
    ) -> None:
        self._id = routed.id
        self._summary = DecisionSummary.of(routed.decision, routed.id).model_dump()
        self._provider = provider
        self._model = model
        self._decisions = decisions
        self._metrics = metrics
        self._start = time.perf_counter()

    async def complete(self, body: Mapping[str, Any]) -> bytes:
        """The whole answer with its ``thalweg`` object; raises `UpstreamError`."""
        with self._recorded():
            answer, usage = annotate(await self._provider.complete(self._model, body), self._summary)
        self._record(Outcome(status="ok", **self._usage(usage)))
        return answer

    async def stream(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """The answer as events, the first with its ``thalweg`` object.

        Raises `UpstreamError` where the model does not begin to answer; a later failure is the stream's last event.
        """
        with self._recorded():
            events = await self._provider.stream(self._model, body)
        return self._relay(events)

    async def _relay(self, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        annotator = EventAnnotator(self._summary)
        try:
            with self._recorded():
                async for chunk in events:
                    if out := annotator.feed(chunk):
                        yield out
                if rest := annotator.flush():
                    yield rest
        except ThalwegError as error:
            yield event(error_body(error))
        else:
            self._record(Outcome(status="ok", **self._usage(annotator.usage)))
        finally:
            await events.aclose()

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Record how a call failed, then raise the failure again."""
        try:
            yield
        except UpstreamTimeout as error:
            self._record(Outcome(status="timeout", latency_ms=self._elapsed_ms(), error=error.message))
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._record(Outcome(status="cancelled", latency_ms=self._elapsed_ms()))
            raise
        except Exception as error:
            self._record(Outcome(status="error", latency_ms=self._elapsed_ms(), error=str(error)))
            raise

    def _usage(self, usage: Usage) -> dict[str, Any]:
        """Time, tokens and, where both counts are known, USD at list price."""
        cost = None
        if usage.input_tokens is not None and usage.output_tokens is not None:
            card = self._model.card
            cost = (usage.input_tokens * card.price_input + usage.output_tokens * card.price_output) / 1e6
        return {
            "latency_ms": self._elapsed_ms(),
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cost_usd": cost,
        }

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._start) * 1e3

    def _record(self, outcome: Outcome) -> None:
        """Count and write an outcome; the answer does not wait for it and does not fail with it."""
        name = self._model.card.name
        self._metrics.calls.labels(name, outcome.status).inc()
        self._metrics.call_time.labels(name).observe((outcome.latency_ms or 0.0) / 1e3)
        self._metrics.tokens.labels(name, "input").inc(outcome.input_tokens or 0)
        self._metrics.tokens.labels(name, "output").inc(outcome.output_tokens or 0)
        self._metrics.cost.labels(name).inc(outcome.cost_usd or 0.0)
        try:
            self._decisions.complete(self._id, outcome).add_done_callback(_log_failure)
        except ThalwegError as error:
            _log.error("an outcome was not written: %s", error.message)


def _log_failure(written: Future[None]) -> None:
    if error := written.exception():
        _log.error("an outcome was not written: %s", error)
