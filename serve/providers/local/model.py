"""The local model's Serve deployment: it loads the model at the first request, and answers one request at a time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from agent.errors import ThalwegError, UpstreamError
from serve.errors import validated
from serve.providers.local.engine import Engine, Finish, Finished, LocalBody
from serve.providers.local.weights import NAME, unpack

STUCK_S = 300.0
"""Longest time between two pieces of an answer, the loading of the model included."""


class LocalModel:
    """The deployment: answers OpenAI chat bodies in OpenAI's shape.

    Parameters
    ----------
    cache
        Where the weights are unpacked.
    """

    def __init__(self, cache: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        self._cache = cache
        self._engine: Engine | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._moved_at: float | None = None  # when the answer that is being generated last had a new piece

    def check_health(self) -> None:
        """Called by Serve, which restarts the replica where it raises: an answer has had no new piece for long."""
        moved_at = self._moved_at
        if moved_at is not None and time.monotonic() - moved_at > STUCK_S:
            raise RuntimeError(f"the local model has made nothing for {STUCK_S:g} s")

    async def complete(self, body: Mapping[str, Any]) -> bytes:
        """The whole answer as a ``chat.completion``."""
        text = ""
        async for piece in self._pieces(validated(LocalBody, body)):
            if isinstance(piece, str):
                text += piece
            else:
                finished = piece
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.reason}
        return orjson.dumps(_envelope("chat.completion") | {"choices": [choice], "usage": finished.usage})

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events of ``chat.completion.chunk``."""
        request = validated(LocalBody, body)
        frame = _envelope("chat.completion.chunk")

        def chunk(delta: Mapping[str, str], finish: Finish | None = None) -> bytes:
            return _event(frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        pieces = self._pieces(request)
        try:
            role = {"role": "assistant"}
            async for piece in pieces:
                if isinstance(piece, str):
                    yield chunk(role | {"content": piece})
                    role = {}
                else:
                    yield chunk(role, piece.reason)
                    if (request.stream_options or {}).get("include_usage"):
                        yield _event(frame | {"choices": [], "usage": piece.usage})
            yield b"data: [DONE]\n\n"
        finally:
            await pieces.aclose()

    async def _pieces(self, body: LocalBody) -> AsyncGenerator[str | Finished, None]:
        """Pieces of text as they are generated, then how the answer ended; closing the generator ends the generation."""
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[str | Finished | BaseException] = asyncio.Queue()
        cancelled = threading.Event()

        def put(piece: str | Finished | BaseException) -> None:
            self._moved_at = time.monotonic()
            loop.call_soon_threadsafe(made.put_nowait, piece)

        def run() -> None:
            self._moved_at = time.monotonic()
            try:
                if not cancelled.is_set():
                    put(self._loaded().generate(body, put, cancelled))
            except BaseException as error:  # handed over to the waiting request, whatever it is
                put(error)
            finally:
                self._moved_at = None

        self._worker.submit(run)
        try:
            while True:
                piece = await made.get()
                if isinstance(piece, ThalwegError):
                    raise piece
                if isinstance(piece, BaseException):
                    raise UpstreamError(f"the local model failed ({type(piece).__name__}: {piece})") from piece
                yield piece
                if isinstance(piece, Finished):
                    return
        finally:
            cancelled.set()

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(unpack(self._cache))
        return self._engine


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": NAME}


def _event(data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
