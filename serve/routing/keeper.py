"""Which answers are kept to be judged, and their texts, read beside what is passed on to the client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from random import Random
from typing import Any

import orjson

from agent.errors import ThalwegError
from serve.routing.live import Routed
from serve.settings import ServeSettings
from store.kept_answers import KeptAnswers

LONGEST = 100_000
"""Characters of an answer beyond which it is not kept."""

_NOT_JUDGED = ("tools", "vision")
"""What a judge, who sees the conversation's text alone, could not judge an answer by."""

_log = logging.getLogger("thalweg.serve")


class Keeper:
    """Draws the answers that are kept, and keeps them; none by the default settings. No client waits for it."""

    def __init__(self, settings: ServeSettings, kept: KeptAnswers, random: Random | None = None) -> None:
        self._settings = settings
        self._kept = kept
        self._random = random or Random()

    def draw(self, routed: Routed, body: Mapping[str, Any], requires: Callable[[], Collection[str]]) -> KeptText | None:
        """Where the answer to a request's ``body`` is to be kept, what its text is to be read into; else None.

        ``requires`` gives the capabilities that the request asks for.
        """
        if not self._settings.keeps_answers:
            return None
        shadow = self._random.random() < self._settings.shadow_share
        sampled = routed.decision.explored or self._random.random() < self._settings.judge_keep_share
        if not (shadow or sampled) or body.get("n") not in (None, 1) or set(requires()) & set(_NOT_JUDGED):
            return None
        return KeptText(self, routed.id, shadow)

    def keep(self, decision_id: str, text: str, *, shadow: bool) -> None:
        """Keep an answer; a failure is logged and costs the client nothing."""
        try:
            self._kept.keep(decision_id, text, shadow=shadow).add_done_callback(_log_failure)
        except ThalwegError as error:
            _log.error("an answer was not kept: %s", error.message)


class KeptText:
    """The text of an answer that is to be kept: the whole answer, or events as they come."""

    def __init__(self, keeper: Keeper, decision_id: str, shadow: bool) -> None:
        self._keeper = keeper
        self._id = decision_id
        self._shadow = shadow
        self._parts: list[str] = []
        self._length = 0
        self._rest = b""
        self._usable = True

    def read(self, answer: bytes) -> None:
        """Read a whole answer."""
        try:
            self._take(orjson.loads(answer)["choices"][0]["message"])
        except (orjson.JSONDecodeError, LookupError, TypeError):
            self._usable = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of a stream of events."""
        if not self._usable:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                try:
                    choices = orjson.loads(line[5:]).get("choices")
                    if choices:  # the last event may hold the usage alone
                        self._take(choices[0]["delta"])
                except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
                    self._usable = False

    def done(self) -> None:
        """The answer ended as it should: keep it, where it is a text."""
        text = "".join(self._parts)
        if self._usable and text.strip():
            self._keeper.keep(self._id, text, shadow=self._shadow)

    def _take(self, message: Mapping[str, Any]) -> None:
        text = message.get("content") or ""
        if message.get("tool_calls") or not isinstance(text, str) or self._length + len(text) > LONGEST:
            self._usable = False
            return
        self._parts.append(text)
        self._length += len(text)


def _log_failure(written: Future[None]) -> None:
    if error := written.exception():
        _log.error("an answer was not kept: %s", error)
