"""A real HTTP upstream with OpenAI's chat completions, for tests: ``with Upstream() as upstream``.

The last message says what it answers: ``status 429`` answers 429, ``hang`` never answers, ``html``
answers no JSON, ``break`` ends in the middle of the stream; anything else is echoed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.serve.served import Served

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Upstream(Served):
    """``seen`` holds the requests, ``dropped`` counts those that hung until the client went away."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.dropped = 0
        super().__init__(self._app())

    @property
    def base_url(self) -> str:
        """As a pool file has it."""
        return f"{self.url}/v1"

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            raw = await request.body()
            body = json.loads(raw)
            self.seen.append({"headers": dict(request.headers), "body": body, "raw": raw})
            asked = str(body["messages"][-1].get("content"))
            if asked.startswith("status "):
                status = int(asked.split()[1])
                error = {"message": "as requested", "type": "test", "param": None, "code": "requested"}
                return JSONResponse({"error": error}, status)
            if asked == "html":
                return Response("<h1>It works!</h1>", media_type="text/html")
            if asked == "hang":
                await self._hang(request)
            if body.get("stream"):
                return StreamingResponse(self._events(body, asked, request), media_type="text/event-stream")
            return Response(_completion(body, f"echo: {asked}"), media_type="application/json")

        return app

    async def _hang(self, request: Request) -> None:
        try:
            while not await request.is_disconnected():
                await asyncio.sleep(0.02)
        finally:
            self.dropped += 1

    async def _events(self, body: dict[str, Any], asked: str, request: Request) -> AsyncIterator[bytes]:
        yield b": a comment before the first event\n\n"
        for i, word in enumerate(["echo:", *asked.split()]):
            delta = {"content": f"{word} "} | ({"role": "assistant"} if i == 0 else {})
            yield chunk(body["model"], delta)
            if asked == "break":
                raise ConnectionError("the upstream breaks on demand")
            if asked == "slow" and i == 1:
                await self._hang(request)
        yield chunk(body["model"], {}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": USAGE}).encode()
            yield b"\n\n"
        yield b"data: [DONE]\n\n"


def chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One event, with whitespace and a number that a re-encoder would change."""
    head = f'{{"id": "up-1",  "object":"chat.completion.chunk","created":1,"model":"{model}","odd":1.50,'
    rest = f'"choices":[{{"index":0,"delta":{json.dumps(delta)},"finish_reason":{json.dumps(finish)}}}]}}'
    return f"data: {head}{rest}\n\n".encode()


def _completion(body: dict[str, Any], content: str) -> bytes:
    message = json.dumps({"role": "assistant", "content": content})
    return (
        f'{{"id":"up-1","object":"chat.completion","created":1,"model":"{body["model"]}", "odd": 1.50,'
        f'"choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}],"usage":{json.dumps(USAGE)}}}\n'
    ).encode()
