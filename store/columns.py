"""Column types that behave alike on SQLite and PostgreSQL: UTC times, text from outside, float32 vectors, compressed JSON."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from sqlalchemy import BigInteger, DateTime, Dialect, Integer, LargeBinary, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator

from agent.types import Candidate, TrialChoice, Vector
from store.packing import decompressed, pack_candidates, pack_json, read_candidates, read_json

Serial = BigInteger().with_variant(Integer, "sqlite")
"""An integer, and the type of autoincrement keys, which SQLite has for INTEGER only."""


Clock = Callable[[], datetime]
"""Tells the time, with a time zone; stores take one, so that a simulation can pass its own."""


def utc_now() -> datetime:
    """The current time, for rows."""
    return datetime.now(UTC)


def literal(text: str | None) -> Any:
    """``text`` for a field of a `typing.Literal` type: only Thalweg writes the column, and only the type's values."""
    return text


def clean(text: str) -> str:
    """Text with U+FFFD for what no database stores and JSON can hold: NUL and lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite, which has no time zones, stores it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Assert that the time is aware: a naive one would be taken for UTC."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"expected an aware datetime, came {value!r}"
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text from outside, passed through `clean`, so that no prompt or comment makes an insert fail."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See `clean`."""
        return None if value is None else clean(value)


class Float32s(TypeDecorator[Vector]):
    """A vector of float32 as little-endian bytes; read back as a read-only array."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Any array of numbers."""
        return None if value is None else np.asarray(value, "<f4").tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> Vector | None:
        """(d,) float32; of bytes that are none, what is whole: readers check the length."""
        return None if value is None else np.frombuffer(value, "<f4", len(value) // 4)


class CompressedFloat32s(TypeDecorator[Vector]):
    """The same, compressed: for vectors that are mostly 0. Rows of earlier versions are not compressed."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Any array of numbers."""
        return None if value is None else zlib.compress(np.asarray(value, "<f4").tobytes())

    def process_result_value(self, value: Any, dialect: Dialect) -> Vector | None:
        """(d,) float32."""
        if value is None:
            return None
        content = decompressed(value)
        return np.frombuffer(content, "<f4", len(content) // 4)


class PackedBytes(LargeBinary):
    """Bytes in a column that was declared as JSON: SQLite, which keeps either there, could change that only by a copy of
    the table."""


@compiles(PackedBytes, "sqlite")
def _declared(*_: Any, **__: Any) -> str:
    return "JSON"


class Candidates(TypeDecorator[tuple[Candidate, ...]]):
    """The candidates of a decision, see `store.packing`."""

    impl = PackedBytes
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Candidates in the order of their rank."""
        return None if value is None else pack_candidates(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[Candidate, ...] | None:
        """As they were, whatever version wrote them."""
        return None if value is None else read_candidates(value)


class PackedJson(TypeDecorator[Any]):
    """Compressed JSON, see `store.packing`."""

    impl = PackedBytes
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Dataclasses, and what JSON has."""
        return None if value is None else pack_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """As JSON has it, whatever version wrote it."""
        return None if value is None else read_json(value)


def trial_choice_json(choice: TrialChoice | None) -> dict[str, Any] | None:
    """The JSON of a trial choice but its trial's id, which has a column of its own."""
    return None if choice is None else {name: value for name, value in asdict(choice).items() if name != "trial"}


def trial_choice(trial: int | None, row: str | Mapping[str, Any] | None) -> TrialChoice | None:
    """A trial choice as it was written, from its JSON or what that says; None where there was none."""
    if trial is None or row is None:
        return None
    return TrialChoice(trial, **(orjson.loads(row) if isinstance(row, str) else row))
