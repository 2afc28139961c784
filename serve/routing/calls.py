"""One call to a model: its answer is passed on with the ``thalweg`` object added, its outcome is recorded.

All bytes of the answer but that object stay as they were; the usage that the model reports is read on the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from agent.errors import ThalwegError, UpstreamError, UpstreamTimeout
from serve.errors import error_body
from serve.metrics import Metrics
from serve.providers.base import Provider
from serve.routing.keeper import KeptText
from serve.routing.live import Routed
from store.decisions import DecisionLog, Outcome
from store.pool.file import PoolModel
from store.views import DecisionSummary

_LONGEST_LINE = 1_000_000
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
    kept
        Where the answer is to be kept for a judge; None: nowhere.
    """

    def __init__(
        self,
        routed: Routed,
        provider: Provider,
        model: PoolModel,
        decisions: DecisionLog,
        metrics: Metrics,
        kept: KeptText | None = None,
    ) -> None:
        self._kept = kept
        self._id = routed.id
        self._snapshot_cost = routed.decision.chosen.snapshot_cost
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
        if self._kept is not None:
            self._kept.read(answer)
            self._kept.done()
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
                    if self._kept is not None:
                        self._kept.feed(chunk)
                    if out := annotator.feed(chunk):
                        yield out
                if rest := annotator.flush():
                    yield rest
        except ThalwegError as error:
            yield b"data: " + orjson.dumps(error_body(error)) + b"\n\n"
        else:
            self._record(Outcome(status="ok", **self._usage(annotator.usage)))
            if self._kept is not None:
                self._kept.done()
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
            self._decisions.complete(self._id, outcome, self._snapshot_cost).add_done_callback(_log_failure)
        except ThalwegError as error:
            _log.error("an outcome was not written: %s", error.message)


def _log_failure(written: Future[None]) -> None:
    if error := written.exception():
        _log.error("an outcome was not written: %s", error)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the model counted them; None where the answer does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Usage | None:
        """The ``usage`` of a completion or of a chunk, where it has one."""
        usage = answer.get("usage")
        if not isinstance(usage, Mapping):
            return None
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        return cls(*(n if isinstance(n, int) else None for n in counts))


def splice(document: bytes, key: str, value: Any) -> bytes:
    """Add ``key`` to a JSON object as its last member; all other bytes stay as they were.

    Examples
    --------
    >>> splice(b'{"a": 1.50}', "b", [2])
    b'{"a": 1.50,"b":[2]}'
    """
    end = document.rindex(b"}")
    comma = b"" if document[:end].rstrip().endswith(b"{") else b","
    return document[:end] + comma + orjson.dumps(key) + b":" + orjson.dumps(value) + document[end:]


def annotate(answer: bytes, value: Any) -> tuple[bytes, Usage]:
    """A plain answer with its ``thalweg`` object; raises `UpstreamError` where the answer is no JSON object."""
    try:
        parsed = orjson.loads(answer)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        text = answer[:200].decode("utf-8", "replace")
        raise UpstreamError(f"the model answered with something that is not a JSON object: {text!r}")
    return splice(answer, "thalweg", value), Usage.of(parsed) or Usage()


class EventAnnotator:
    """Passes server-sent events through; the first that holds a JSON object gets the ``thalweg`` object.

    Parameters
    ----------
    value
        The object to add.

    Attributes
    ----------
    usage
        The last usage in the stream.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._added = False
        self._rest = b""
        self.usage = Usage()

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk; returns what can be sent on: all but an unfinished line before the first event."""
        if self._added:
            self._scan(chunk)
            return chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        out = b""
        for i, line in enumerate(lines):
            if (data := _data(line)) is not None:
                rest = b"\n".join([*lines[i + 1 :], self._rest])
                return out + self._added_to(line, data) + b"\n" + self.feed(rest)
            out += line + b"\n"
        return out

    def flush(self) -> bytes:
        """What is left where the stream ends in an unfinished line before any event."""
        return b"" if self._added else self._rest

    def _added_to(self, line: bytes, data: Mapping[str, Any]) -> bytes:
        self._added, self._rest = True, b""
        self.usage = Usage.of(data) or self.usage
        return splice(line, "thalweg", self._value)

    def _scan(self, chunk: bytes) -> None:
        """Look for a usage in the complete lines."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[:_LONGEST_LINE]
        for line in lines:
            if b'"usage"' in line and (data := _data(line)) is not None:
                self.usage = Usage.of(data) or self.usage


def _data(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a ``data:`` line; None for every other line."""
    if not line.startswith(b"data:"):
        return None
    try:
        data = orjson.loads(line[5:])
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None
