"""Adding the ``thalweg`` object to an answer while all other bytes stay as they are, and reading the answer's usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agent.errors import UpstreamError

_LONGEST_LINE = 1_000_000
DONE = b"data: [DONE]\n\n"


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


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"
