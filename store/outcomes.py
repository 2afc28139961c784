"""The outcome log: what became of each call, append-only, in one order for all replicas.

Its rows are apart from the outcomes that people read with a decision: these go when their decisions go, and may be replaced.
Here only the first outcome of a decision enters, so that every replica learns each call once. As with the feedback log, rows
are committed in the order of ``seq``, because appends take a lock until the commit. It is the feedback log's lock: two
transactions that took two locks in different orders would wait for each other.

A replica that starts reads `known_outcomes`: the drifts that are recorded, and `OutcomeLog.latest`, which is all that its
streams hold. Retention keeps just that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, insert, select
from sqlalchemy.orm import Session

from agent.observations import CallOutcome
from agent.online.outcomes import WINDOW, OutcomeStatistics
from store.columns import literal
from store.database import Database
from store.drifts import DriftStore
from store.prompts import table
from store.tables import DecisionTable, OutcomeLogTable, PromptTable

_o, _d, _p = table(OutcomeLogTable).c, table(DecisionTable).c, table(PromptTable).c
_FIGURES = (_o.status, _o.output_tokens, _o.latency_ms, _o.cost_usd, _o.snapshot_cost, _o.input_tokens)

APPEND = insert(table(OutcomeLogTable)).from_select(
    ["model", "task", "encoder_tokens", *(c.name for c in _FIGURES)],
    select(_d.model, _d.task, _p.tokens, *(bindparam(f"log_{c.name}", type_=c.type) for c in _FIGURES))
    .join(table(PromptTable), _p.id == _d.prompt_id)
    .where(_d.id == bindparam("decision_id", type_=_d.id.type)),
)
"""Appends an outcome of ``decision_id``; its figures are ``log_status`` and so on."""


def ranked() -> Select[*tuple[Any, ...]]:
    """Every row with its ``age``: how many later ones of the same model hold the same figures. Streams hold `WINDOW`."""
    kind = (_o.model, _o.status == "ok", _o.output_tokens.is_(None), _o.latency_ms.is_(None))
    priced = _o.cost_usd.is_(None) | (func.coalesce(_o.snapshot_cost, 0.0) == 0.0)
    counted = _o.input_tokens.is_(None) | (func.coalesce(_o.encoder_tokens, 0) == 0)
    age = func.row_number().over(partition_by=(*kind, priced, counted), order_by=_o.seq.desc())
    return select(*table(OutcomeLogTable).c, (age - 1).label("age"))


class OutcomeLog:
    """Reads the log; `store.decisions.DecisionLog.complete` appends to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self) -> list[CallOutcome]:
        """All rows that streams hold, in order."""
        rows = ranked().subquery()
        with self._database.session() as session:
            return _read(session, select(rows).where(rows.c.age < WINDOW).order_by(rows.c.seq))

    def tail(self, after: int, limit: int = 1000) -> list[CallOutcome]:
        """The ``limit`` rows after position ``after``, in order."""
        query = select(*table(OutcomeLogTable).c).where(_o.seq > after).order_by(_o.seq).limit(limit)
        with self._database.session() as session:
            return _read(session, query)


def known_outcomes(database: Database) -> OutcomeStatistics:
    """What is known of the models' calls by now."""
    changes = DriftStore(database).changes()  # before the rows, so that one found meanwhile is followed later
    return OutcomeStatistics.started(OutcomeLog(database).latest(), changes)


def _read(session: Session, query: Select[*tuple[Any, ...]]) -> list[CallOutcome]:
    rows: Sequence[Row[*tuple[Any, ...]]] = session.execute(query).all()
    return [
        CallOutcome(
            row.seq, row.model, row.task, literal(row.status), row.output_tokens, row.latency_ms, row.cost_usd,
            row.snapshot_cost, row.input_tokens, row.encoder_tokens,
        )
        for row in rows
    ]  # fmt: skip
