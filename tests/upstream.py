"""A real HTTP upstream with OpenAI's chat completions whose manners and faults a test sets: ``with Upstream() as upstream``.

A fault is what a request meets in place of an answer, or within one:

- ``status N`` answers with an error of this status, ``status N S`` with ``Retry-After: S``;
- ``hang`` never answers, ``slow`` streams two events and then none;
- ``html`` answers with no JSON, ``cut`` with a JSON document that ends in its middle;
- ``half`` breaks the connection off in the middle of an answer, ``break`` in that of a stream;
- ``die`` does so and answers nobody ever again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.serve.served import Served

Body = dict[str, Any]

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

FAULT = re.compile(r"status \d+( \d+)?|hang|slow|html|cut|half|break|die")


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    body: Body
    headers: Mapping[str, str]
    raw: bytes


def asked(body: Body) -> str:
    """The text of the last message."""
    return str(body["messages"][-1].get("content"))


def echo(body: Body) -> str:
    """The last message."""
    return f"echo: {asked(body)}"


def named(body: Body) -> str | None:
    """The fault that the last message asks for."""
    return asked(body) if FAULT.fullmatch(asked(body)) else None


class Upstream(Served):
    """An upstream.

    Parameters
    ----------
    answer
        What it says to a request's body.
    fault
        The fault that a request meets, if any.
    faults
        Faults of the first requests, one each, before ``fault`` is asked.
    refuses
        Parameters that it answers with 400.
    tools, schema, streams
        Whether it calls tools, keeps to a JSON schema, and streams.
    context
        Characters of messages beyond which it answers as OpenAI does beyond a context length; None: no limit.
    sees
        Whether it sees images: an answer to one is its colour, which is taken to be red; None: it ignores them, and else they
        are refused.
    listed
        What its list of models says of each beside its id; None: it has no list.
    usage
        Input and output tokens that it counts, from the body and the answer.

    Attributes
    ----------
    received
        The requests.
    dropped
        How many of those that hung were given up by their client.
    """

    def __init__(
        self,
        answer: Callable[[Body], str] = echo,
        *,
        fault: Callable[[Body], str | None] = named,
        faults: Iterable[str | None] = (),
        refuses: tuple[str, ...] = (),
        tools: bool = True,
        schema: bool = True,
        streams: bool = True,
        context: int | None = None,
        sees: bool | None = True,
        listed: Mapping[str, Body] | None = None,
        usage: Callable[[Body, str], tuple[int, int]] | None = None,
    ) -> None:
        self.received: list[Received] = []
        self.dropped = 0
        self._dead = False
        self.answer, self.fault, self.usage = answer, fault, usage
        self.faults: Iterator[str | None] = iter(faults)
        self.refuses, self.tools, self.schema, self.streams, self.context = refuses, tools, schema, streams, context
        self.sees, self.listed = sees, listed
        super().__init__(self._app())

    @property
    def base_url(self) -> str:
        """As a pool file has it."""
        return f"{self.url}/v1"

    @property
    def seen(self) -> list[Body]:
        """Bodies of the requests."""
        return [request.body for request in self.received]

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            raw = await request.body()
            body = json.loads(raw)
            self.received.append(Received(body, dict(request.headers), raw))
            fault = "die" if self._dead else next(self.faults, None) or self.fault(body) or ""
            if fault.startswith("status "):
                _, status, *wait = fault.split()
                headers = {"retry-after": wait[0]} if wait else None
                return JSONResponse(_error("as requested", "requested"), int(status), headers)
            if fault == "html":
                return Response("<h1>It works!</h1>", media_type="text/html")
            if fault == "hang":
                await self._hang(request)
            if refused := self._refused(body):
                return JSONResponse(refused, 400)
            text = "Red." if self.sees and _image(body) else self.answer(body)
            if body.get("stream"):
                return StreamingResponse(self._events(body, text, fault, request), media_type="text/event-stream")
            content = self._completion(body, text)
            if fault in ("half", "break", "die"):
                headers = {"content-length": str(len(content))}
                return StreamingResponse(self._broken(content, fault), headers=headers, media_type="application/json")
            return Response(content[: len(content) // 2] if fault == "cut" else content, media_type="application/json")

        @app.get("/v1/models")
        async def models() -> Response:
            if self.listed is None:
                return JSONResponse(_error("there is no list", "not_found"), 404)
            return JSONResponse({"object": "list", "data": [{"id": id, **more} for id, more in self.listed.items()]})

        return app

    def _refused(self, body: Body) -> Body | None:
        if found := [name for name in self.refuses if name in body]:
            return _error(f"unsupported parameter: {found[0]}", "unsupported_parameter")
        if body.get("stream") and not self.streams:
            return _error("no streams here", "unsupported_parameter")
        if self.sees is False and _image(body):
            return _error("no images here", "unsupported_content")
        length = sum(len(str(message.get("content"))) for message in body["messages"])
        if self.context is not None and length > self.context:
            return _error(f"the context holds {self.context} characters, not {length}", "context_length_exceeded")
        return None

    async def _hang(self, request: Request) -> None:
        try:
            while not await request.is_disconnected():
                await asyncio.sleep(0.02)
        finally:
            self.dropped += 1

    async def _broken(self, content: bytes, fault: str) -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        self._die(fault)
        raise ConnectionError("the upstream breaks on demand")

    async def _events(self, body: Body, text: str, fault: str, request: Request) -> AsyncIterator[bytes]:
        yield b": a comment before the first event\n\n"
        for i, word in enumerate(text.split()):
            delta = {"content": f"{word} "} | ({"role": "assistant"} if i == 0 else {})
            yield chunk(body["model"], delta)
            if fault in ("half", "break", "die"):
                self._die(fault)
                raise ConnectionError("the upstream breaks on demand")
            if fault == "slow" and i == 1:
                await self._hang(request)
        yield chunk(body["model"], {}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            counted = {"object": "chat.completion.chunk", "choices": [], "usage": self._usage(body, text)}
            yield b"data: " + json.dumps(counted).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    def _die(self, fault: str) -> None:
        if fault == "die":
            self._dead = self._server.should_exit = True

    def _usage(self, body: Body, text: str) -> dict[str, int]:
        if self.usage is None:
            return USAGE
        tokens = self.usage(body, text)
        return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}

    def _completion(self, body: Body, text: str) -> bytes:
        """With whitespace and a number that a re-encoder would change."""
        message: Body = {"role": "assistant", "content": text}
        if body.get("tools") and self.tools:
            function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"text": "it rains"}'}
            message |= {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
        if "response_format" in body and self.schema and not text.startswith("{"):
            message["content"] = '{"colour": "blue"}'
        return (
            f'{{"id":"up-1","object":"chat.completion","created":1,"model":"{body["model"]}", "odd": 1.50,'
            f'"choices":[{{"index":0,"message":{json.dumps(message)},"finish_reason":"stop"}}],'
            f'"usage":{json.dumps(self._usage(body, text))}}}\n'
        ).encode()


def _image(body: Body) -> bool:
    parts = body["messages"][-1].get("content")
    return isinstance(parts, list) and any(part.get("type") == "image_url" for part in parts)


def chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One event, with whitespace and a number that a re-encoder would change."""
    head = f'{{"id": "up-1",  "object":"chat.completion.chunk","created":1,"model":"{model}","odd":1.50,'
    rest = f'"choices":[{{"index":0,"delta":{json.dumps(delta)},"finish_reason":{json.dumps(finish)}}}]}}'
    return f"data: {head}{rest}\n\n".encode()


def _error(message: str, code: str) -> Body:
    return {"error": {"message": message, "type": "test", "param": None, "code": code}}
