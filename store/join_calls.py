"""Calls that a join makes: to the model that joins, to those it is compared with, and to judges; and those that the judging of
live answers makes, which belong to no join.

Each is booked before it is made, with the most that it can cost, in the transaction that finds it within the budget; so the
budget holds whatever happens meanwhile. A call is made once: one that was booked by a run that died may have been paid, so
it counts in full and is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.columns import Clock, literal, utc_now
from store.database import Database
from store.tables import JoinCallTable, JoinTable

Role = Literal["check", "probe", "rival", "judge", "shadow"]
CallState = Literal["booked", "done", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class JoinBudget:
    """Most that one join, or judging ``since`` a time, may spend: USD, and calls."""

    usd: float
    calls: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class JoinSpending:
    """What a join has spent: calls made, and USD, of calls whose cost is not known the most that they can have cost."""

    calls: int
    usd: float


@dataclass(frozen=True, slots=True)
class JoinCall:
    """A call.

    Parameters
    ----------
    join
        Whose; None where live answers are judged.
    role
        ``check``, ``probe`` (a prompt to the model that joins), ``rival`` (the same prompt to the model that would have
        answered it), ``judge``, or ``shadow`` (a live prompt to a second model).
    subject
        What it is about, once a role.
    model
        Who is called.
    state
        ``booked`` until it ends as ``done`` or ``failed`` (nothing was paid); ``lost`` where the run that booked it died.
    reserved_usd, cost_usd
        The most that it can cost, and what it did cost.
    answer
        What was answered.
    decision_id
        The decision under which the answer is scored.
    """

    id: int
    join: int | None
    role: Role
    subject: str
    model: str
    state: CallState
    reserved_usd: float
    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    latency_ms: float | None
    answer: str | None
    error: str | None
    decision_id: str | None
    booked_at: datetime
    finished_at: datetime | None


class JoinCalls:
    """Books calls, ends them and adds up what they cost."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def book(
        self, join: int | None, role: Role, subject: str, model: str, reserved_usd: float, budget: JoinBudget
    ) -> JoinCall | None:
        """Book a call, which is to be made then; as it is, where it was booked before. None: it is beyond the budget."""
        t = JoinCallTable
        with self._database.session(lock="joins") as session:
            known = session.scalar(select(t).where(t.join == join, t.role == role, t.subject == subject))
            if known is not None:
                return _call(known)
            spent = _spending(session, join, since=budget.since)
            if spent.calls + 1 > budget.calls or spent.usd + reserved_usd > budget.usd:
                return None
            row = t(join=join, role=role, subject=subject, model=model, state="booked", reserved_usd=reserved_usd)
            row.booked_at = self._clock()
            session.add(row)
            session.commit()
            return _call(row)

    def done(
        self,
        call: JoinCall,
        answer: str,
        *,
        cost_usd: float | None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        latency_ms: float | None = None,
        decision_id: str | None = None,
    ) -> None:
        """A call was answered. Where its cost is not known, it counts as what was reserved."""
        self._end(
            call, "done", answer=answer, cost_usd=cost_usd, input_tokens=input_tokens, output_tokens=output_tokens,
            latency_ms=latency_ms, decision_id=decision_id,
        )  # fmt: skip

    def failed(self, call: JoinCall, error: str, *, paid: bool) -> None:
        """A call failed; where it may have been ``paid``, it counts as what was reserved."""
        self._end(call, "failed", error=error, cost_usd=None if paid else 0.0)

    def lose(self, join: int | None) -> int:
        """Close the calls of a run that died, and return their number. To be called while no run works on the join."""
        t = JoinCallTable
        values = {"state": "lost", "error": "the run that made it died", "finished_at": self._clock()}
        lost = update(t).where(t.join == join, t.state == "booked").values(**values).returning(t.id)
        with self._database.session(lock="joins") as session:
            ids = session.scalars(lost).all()
            session.commit()
        return len(ids)

    def list(self, join: int | None, *roles: Role) -> list[JoinCall]:
        """The calls of a join in the order in which they were booked; where ``roles`` are given, those."""
        query = select(JoinCallTable).where(JoinCallTable.join == join).order_by(JoinCallTable.id)
        if roles:
            query = query.where(JoinCallTable.role.in_(roles))
        with self._database.session() as session:
            return [_call(row) for row in session.scalars(query)]

    def spent(self, join: int | None, roles: Sequence[Role] = (), since: datetime | None = None) -> JoinSpending:
        """What a join has spent so far (``since`` a time), on calls of these ``roles``; on all where none is given."""
        with self._database.session() as session:
            return _spending(session, join, roles, since)

    def forget_answer(self, role: Role, subject: str) -> None:
        """Delete what was answered to a live call, once it is judged."""
        t = JoinCallTable
        forget = update(t).where(t.join.is_(None), t.role == role, t.subject == subject).values(answer=None)
        with self._database.session(lock="joins") as session:
            session.execute(forget)
            session.commit()

    def spent_by_model(self) -> dict[str, float]:
        """model -> USD that its joins have spent so far, of those that have spent anything."""
        t, cost = JoinCallTable, func.sum(func.coalesce(JoinCallTable.cost_usd, JoinCallTable.reserved_usd))
        query = select(JoinTable.model, cost).join(t, t.join == JoinTable.id).group_by(JoinTable.model)
        with self._database.session() as session:
            return {model: float(usd) for model, usd in session.execute(query)}

    def _end(self, call: JoinCall, state: CallState, **values: object) -> None:
        t = JoinCallTable
        change = update(t).where(t.id == call.id).values(state=state, finished_at=self._clock(), **values)
        with self._database.session(lock="joins") as session:
            session.execute(change)
            session.commit()


def _spending(
    session: Session, join: int | None, roles: Sequence[Role] = (), since: datetime | None = None
) -> JoinSpending:
    t = JoinCallTable
    cost = func.coalesce(t.cost_usd, t.reserved_usd)
    query = select(func.count(t.id), func.coalesce(func.sum(cost), 0.0)).where(t.join == join)
    if roles:
        query = query.where(t.role.in_(roles))
    if since is not None:
        query = query.where(t.booked_at >= since)
    calls, usd = session.execute(query).one()
    return JoinSpending(int(calls), float(usd))


def _call(row: JoinCallTable) -> JoinCall:
    fields = {name: getattr(row, name) for name in JoinCall.__dataclass_fields__}
    return JoinCall(**fields | {"role": literal(row.role), "state": literal(row.state)})
