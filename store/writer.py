"""Group commit: many small writes share one durable commit, and no future resolves before it.

One thread owns one connection. It takes everything that is queued, runs it in one transaction, commits, and then resolves
the futures. Meanwhile the next group is queued, so the cost of a commit is shared under load, and a single write does not
wait for others.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from agent.errors import StoreUnavailable
from store.database import Database

T = TypeVar("T")

_RETRYABLE_STATES = ("40001", "40P01")
"""SQLSTATEs of serialization failure and deadlock, after which a transaction may simply be run again."""


@dataclass(frozen=True, slots=True)
class _Item:
    work: Callable[[Session], Any]
    future: Future[Any]


class GroupCommitter:
    """Commits submitted writes in groups.

    Parameters
    ----------
    group
        Most writes per transaction.
    capacity
        Most writes that wait; `submit` refuses further ones at once.
    """

    def __init__(self, database: Database, *, group: int = 256, capacity: int = 8192) -> None:
        self._database = database
        self._group = group
        self._capacity = capacity
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="thalweg-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Session], T]) -> Future[T]:
        """Run ``work`` in the next group; the future resolves to what it returns once that is durable.

        Parameters
        ----------
        work
            Writes through the session and neither commits nor rolls back. It must keep no state: it is run again where a
            failed attempt was rolled back.

        Raises
        ------
        StoreUnavailable
            Where ``capacity`` writes wait already, or after `close`. The future raises it where the commit failed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closing; nothing was written, try again in a moment")
            if self._queue.qsize() >= self._capacity:
                raise StoreUnavailable(
                    f"{self._capacity} writes wait for the database already; nothing was written, try again later"
                )
            self._queue.put(_Item(work, future))
        return future

    def close(self) -> None:
        """Commit what is queued, then stop. May be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            group = []
            item = self._queue.get()
            while item is not None:
                if item.future.set_running_or_notify_cancel():
                    group.append(item)
                if len(group) == self._group or self._queue.empty():
                    break
                item = self._queue.get()
            closing = item is None
            if group:
                self._commit(group)
        self._discard()

    def _commit(self, group: list[_Item]) -> None:
        try:
            with self._database.translated():
                outcomes = self._transact(group)
        except Exception as error:
            self._discard()
            outcomes = [error] * len(group)
        for item, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)

    def _transact(self, group: list[_Item]) -> list[Any]:
        """One transaction, run again once where it certainly was not committed: after a lost connection or a deadlock."""
        try:
            return self._attempt(group)
        except _NotCommitted:
            self._discard()
        try:
            return self._attempt(group)
        except _NotCommitted as error:
            raise error.cause from None

    def _attempt(self, group: list[_Item]) -> list[Any]:
        try:
            if self._connection is None:
                self._connection = self._database.writer_connection()
            session = Session(self._connection, expire_on_commit=False)
            try:
                outcomes = [item.work(session) for item in group]
            except Exception as error:
                if _retryable(error):
                    raise
                session.rollback()
                # One item failed: run each in a savepoint, so that the others are not lost.
                one = len(group) == 1
                outcomes = [self._translated(error)] if one else [self._isolated(session, i) for i in group]
        except DBAPIError as error:
            if _retryable(error):
                raise _NotCommitted(error) from error
            raise
        session.commit()
        session.close()
        return outcomes

    def _isolated(self, session: Session, item: _Item) -> Any:
        try:
            with session.begin_nested():
                return item.work(session)
        except Exception as error:
            if _retryable(error):
                raise
            return self._translated(error)

    def _translated(self, error: Exception) -> Exception:
        try:
            with self._database.translated():
                raise error
        except Exception as translated:
            return translated

    def _discard(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.invalidate()
            self._connection.close()
        except Exception:  # the connection is broken already
            pass
        self._connection = None


class _NotCommitted(Exception):
    """The transaction was not committed, and may succeed when it is run again."""

    def __init__(self, cause: DBAPIError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _retryable(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _RETRYABLE_STATES
