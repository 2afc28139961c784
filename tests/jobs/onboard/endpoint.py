"""A real OpenAI-compatible endpoint over HTTP whose manners a test sets: ``with Endpoint(tools=False) as endpoint``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.serve.served import Served


class Endpoint(Served):
    """``seen`` holds the bodies that came.

    Parameters
    ----------
    refuses
        Parameters that it answers with 400.
    tools, schema, streams
        Whether it calls tools, keeps to a JSON schema, and streams.
    busy
        Answers 429 so many times before it works.
    status
        Answers everything with this.
    answer
        What it says to a request's body.
    """

    def __init__(
        self,
        *,
        refuses: tuple[str, ...] = (),
        tools: bool = True,
        schema: bool = True,
        streams: bool = True,
        busy: int = 0,
        status: int = 200,
        answer: Callable[[dict[str, Any]], str] = lambda body: "ok",
    ) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.refuses, self.tools, self.schema, self.streams = refuses, tools, schema, streams
        self.busy, self.status, self.answer = busy, status, answer
        super().__init__(self._app())

    @property
    def base_url(self) -> str:
        """As a pool file has it."""
        return f"{self.url}/v1"

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = json.loads(await request.body())
            self.seen.append(body)
            self.keys.append(request.headers.get("authorization"))
            if self.busy:
                self.busy -= 1
                return JSONResponse({"error": {"message": "slow down"}}, 429, {"retry-after": "7"})
            if self.status != 200:
                return JSONResponse({"error": {"message": "no luck"}}, self.status)
            if found := [name for name in self.refuses if name in body]:
                return JSONResponse({"error": {"message": f"unsupported parameter: {found[0]}"}}, 400)
            if body.get("stream"):
                return self._stream()
            return JSONResponse(self._completion(body))

        return app

    def _stream(self) -> Response:
        if not self.streams:
            return JSONResponse({"error": {"message": "no streams here"}}, 400)
        choice = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
        return Response(
            f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n", media_type="text/event-stream"
        )

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.answer(body)}
        if "tools" in body and self.tools:
            call = {"id": "1", "type": "function", "function": {"name": "note", "arguments": '{"text": "it rains"}'}}
            message |= {"content": None, "tool_calls": [call]}
        if "response_format" in body and self.schema:
            message["content"] = '{"colour": "blue"}'
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
