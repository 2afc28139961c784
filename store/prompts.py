"""Prompts by content: one row, encoded once, for each conversation and encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.dml import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite.dml import Insert as SqliteInsert

from agent.types import Encoded, Turn
from store.settings import PromptsSetting
from store.tables import Base, PromptTable

ENCODED = (PromptTable.embedding, PromptTable.features, PromptTable.tokens, PromptTable.coverage)
"""The columns that `encoded` reads, in its order."""


def canonical(turns: Sequence[Turn]) -> str:
    """A conversation as one text; that of a single user turn is the turn's own, as in imported evaluations."""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].text
    return "\n\n".join(f"{turn.role}: {turn.text}" for turn in turns)


_TURN = re.compile(r"(?:^|\n\n)(system|developer|user|assistant|tool|function): ")


def turns_of(text: str) -> tuple[Turn, ...]:
    """The conversation that `canonical` made ``text`` of, as far as the text tells: a turn that holds what looks like the
    beginning of another is taken for two.

    Examples
    --------
    >>> turns_of(canonical([Turn("system", "Be brief."), Turn("user", "Why?")]))
    (Turn(role='system', text='Be brief.'), Turn(role='user', text='Why?'))
    >>> turns_of("Why?")
    (Turn(role='user', text='Why?'),)
    """
    found = list(_TURN.finditer(text))
    if not found or found[0].start() > 0:
        return (Turn("user", text),)
    ends = [match.start() for match in found[1:]] + [len(text)]
    return tuple(Turn(match[1], text[match.end() : end]) for match, end in zip(found, ends))


_ASKABLE = ("system", "developer", "user", "assistant")


def askable(text: str) -> bool:
    """Whether a `canonical` conversation can be put to a model again: it ends with a user's turn, and has no tool's."""
    turns = turns_of(text)
    return turns[-1].role == "user" and all(turn.role in _ASKABLE and turn.text.strip() for turn in turns)


def text_id(text: str, encoder: str) -> str:
    """The id of a prompt: the hash of its content under an encoder."""
    return sha256(encoder.encode() + b"\0" + text.encode("utf-8", "surrogatepass")).hexdigest()


def vector_id(encoded: Encoded, encoder: str) -> str:
    """The id of a prompt whose text is not known: the hash of its embedding and features."""
    content = encoded.embedding.tobytes() + encoded.features.tobytes()
    return sha256(encoder.encode() + b"\0\0" + content).hexdigest()


def prompt_row(
    text: str | None, encoder: str, encoded: Encoded, setting: PromptsSetting, now: datetime
) -> dict[str, Any]:
    """A row for `PromptTable`; with ``setting`` ``embedding``, without the text, whose hash is the id."""
    return {
        "id": vector_id(encoded, encoder) if text is None else text_id(text, encoder),
        "encoder": encoder,
        "text": text if setting == "full" else None,
        "embedding": encoded.embedding,
        "features": encoded.features,
        "tokens": encoded.tokens,
        "coverage": encoded.coverage,
        "created_at": now,
    }


def encoded(row: Row[*tuple[Any, ...]]) -> Encoded:
    """The columns `ENCODED` of ``row``."""
    return Encoded(row.embedding, row.features, row.tokens, row.coverage)


def table(of: type[Base]) -> Table:
    """The Core table of a mapped class, for bulk writes without the ORM."""
    assert isinstance(of.__table__, Table)
    return of.__table__


@cache
def insert_or_ignore(of: type[Base], dialect: str) -> SqliteInsert | PostgresInsert:
    """An insert that skips rows whose key exists; cached, so that SQLAlchemy compiles it once."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(table(of)).on_conflict_do_nothing()
