"""Prompts by content: one row, encoded once, for each conversation and encoder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.dml import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite.dml import Insert as SqliteInsert
from sqlalchemy.orm import Session

from agent.examples import Examples
from agent.feedback.checks import readable
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


_IDS_A_QUERY = 10_000
"""Databases limit the number of parameters of a statement."""


class Score(NamedTuple):
    """Score in [0, 1] of a model on a prompt, and its cost in USD where known."""

    prompt: str
    model: str
    score: float
    cost: float | None = None


def to_examples(session: Session, scores: Sequence[Score], models: Sequence[str] | None = None) -> Examples:
    """``scores`` as a (prompts, models) array, with the prompts' embeddings, features and texts.

    A prompt whose embedding or features cannot be read is left out.

    Parameters
    ----------
    scores
        Of prompts that one encoder encoded; those of the same prompt and model are averaged.
    models
        The columns; prompts without a score of any of them are left out. None for every model in ``scores``.
    """
    columns = tuple(sorted({s.model for s in scores}) if models is None else models)
    column = {model: j for j, model in enumerate(columns)}
    found: list[Row[*tuple[Any, ...]]] = []
    ids = sorted({s.prompt for s in scores if s.model in column})
    for start in range(0, len(ids), _IDS_A_QUERY):
        query = select(PromptTable.id, PromptTable.embedding, PromptTable.features, PromptTable.text)
        found += session.execute(query.where(PromptTable.id.in_(ids[start : start + _IDS_A_QUERY])))
    fits = readable([p.embedding for p in found]) & readable([p.features for p in found])
    prompts = sorted((p for p, fit in zip(found, fits) if fit), key=lambda p: str(p.id))
    row = {p.id: i for i, p in enumerate(prompts)}
    scores = [s for s in scores if s.model in column and s.prompt in row]
    rows = np.array([row[s.prompt] for s in scores], np.int64)
    cols = np.array([column[s.model] for s in scores], np.int64)
    shape = (len(prompts), len(columns))
    costs = _mean(shape, rows, cols, np.array([np.nan if s.cost is None else s.cost for s in scores], np.float64))
    return Examples(
        ids=tuple(p.id for p in prompts),
        embeddings=np.stack([p.embedding for p in prompts]) if prompts else np.zeros((0, 0), np.float32),
        features=np.stack([p.features for p in prompts]) if prompts else np.zeros((0, 0), np.float32),
        scores=_mean(shape, rows, cols, np.array([s.score for s in scores], np.float64)),
        models=columns,
        costs=None if np.isnan(costs).all() else costs,
        texts=tuple(p.text or "" for p in prompts),
    )


def _mean(
    shape: tuple[int, int], rows: NDArray[np.int64], cols: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(prompts, models) means of the values, of those that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (rows[known], cols[known]), values[known])
    np.add.at(count, (rows[known], cols[known]), 1.0)
    mean = np.full(shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
