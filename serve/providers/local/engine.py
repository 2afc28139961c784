"""The local model in this process: text in, pieces of text out, one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.errors import InvalidInput
from serve.providers.local.weights import NAME

MAX_TOKENS = 128
"""Length of an answer, unless the request asks for a shorter one: it generates some 10 tokens a second."""

Finish = Literal["stop", "length"]
Emit = Callable[[str], None]
Count = Annotated[int, Field(ge=1, strict=True)]


class LocalBody(BaseModel):
    """The fields of a chat request that the local model honours."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: list[dict[str, Any]]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    stream_options: dict[str, Any] | None = None

    @property
    def limit(self) -> int:
        """Most tokens of the answer."""
        return min(self.max_completion_tokens or self.max_tokens or MAX_TOKENS, MAX_TOKENS)

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which the answer ends."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(filter(None, given))


@dataclass(frozen=True, slots=True)
class Finished:
    """How an answer ended and what it took."""

    reason: Finish
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """In OpenAI's shape."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


class StopFilter:
    """Passes text on up to the first stop text; what may be the beginning of one is held back until that is clear."""

    def __init__(self, stops: tuple[str, ...], emit: Emit) -> None:
        self._stops = stops
        self._emit = emit
        self._held = ""
        self.stopped = False

    def feed(self, text: str, *, end: bool = False) -> None:
        """Take the next piece of text."""
        if self.stopped:
            return
        self._held += text
        hits = [at for s in self._stops if (at := self._held.find(s)) >= 0]
        if hits:
            self.stopped = True
            self._pass(min(hits))
        else:
            self._pass(len(self._held) - (0 if end else self._overlap()))

    def _overlap(self) -> int:
        """Length of the longest end of the held text that begins a stop text."""
        longest = max(map(len, self._stops), default=1) - 1
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if any(s.startswith(self._held[-n:]) for s in self._stops)), 0)

    def _pass(self, length: int) -> None:
        if length:
            self._emit(self._held[:length])
        self._held = self._held[length:]


class TextPieces:
    """Passes on the text of tokens as transformers' ``generate`` gives them (its streamer), never half a character.

    Parameters
    ----------
    tokenizer
        Of the model.
    emit
        Called with each piece.
    """

    def __init__(self, tokenizer: Any, emit: Emit) -> None:
        self._tokenizer = tokenizer
        self._emit = emit
        self._tokens: list[int] | None = None
        self._passed = 0

    def put(self, tokens: Any) -> None:
        """Take the next tokens; the first are the prompt's."""
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += tokens.flatten().tolist()
        text: str = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._emit(text[self._passed :])
            self._passed = len(text)

    def end(self) -> None:
        """The last token has been put."""


class Engine:
    """The loaded model.

    Parameters
    ----------
    folder
        Where `unpack` left it.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._context = int(self._model.config.max_position_embeddings)

    def generate(self, body: LocalBody, emit: Emit, cancelled: threading.Event) -> Finished:
        """Answer ``body``, calling ``emit`` with each piece of text; ends early where ``cancelled`` is set."""
        import torch
        from transformers import StoppingCriteriaList

        stop = StopFilter(body.stops, emit)

        def halt(input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full((len(input_ids),), stop.stopped or cancelled.is_set())

        ids = self._prompt(body)  # {input_ids, attention_mask}: (1, tokens)
        prompt_tokens = ids["input_ids"].shape[1]
        if body.seed is not None:
            torch.manual_seed(body.seed)
        temperature = body.temperature or 0.0  # greedy by default: so small a model rambles when it samples
        sampling = {"temperature": temperature, "top_p": body.top_p or 0.9} if temperature > 0 else {}
        with torch.inference_mode():
            out = self._model.generate(
                **ids,
                max_new_tokens=body.limit,
                do_sample=bool(sampling),
                **sampling,
                streamer=TextPieces(self._tokenizer, stop.feed),
                stopping_criteria=StoppingCriteriaList([halt]),
            )
        stop.feed("", end=True)
        ended = stop.stopped or int(out[0, -1]) == self._tokenizer.eos_token_id
        return Finished("stop" if ended else "length", prompt_tokens, out.shape[1] - prompt_tokens)

    def _prompt(self, body: LocalBody) -> Any:
        messages = [{"role": message["role"], "content": _text(message.get("content"))} for message in body.messages]
        ids = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = ids["input_ids"].shape[1]
        if length + body.limit > self._context:
            raise InvalidInput(
                f"messages: {length:,} tokens and an answer of {body.limit:,} do not fit into the {self._context:,} "
                f"tokens of {NAME}; shorten them or ask another model",
                param="messages",
            )
        return ids


def _text(content: Any) -> str:
    """The text of a message's content, whose form the HTTP interface has checked."""
    if not isinstance(content, list):
        return content or ""
    return "\n".join(filter(None, (part.get("text") or part.get("refusal") for part in content)))
