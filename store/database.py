"""The database, SQLite or PostgreSQL: opening, migration, sessions, and the translation of SQLAlchemy's errors.

On both, a commit that has returned survives `kill -9` (SQLite: WAL with ``synchronous=FULL``), and a session that ends
without a commit changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.orm import Session

from agent.errors import InvalidInput, StoreUnavailable
from store.engine import RESTORE, make_engine
from store.migrate import check, upgrade


class Database:
    """A migrated database.

    Parameters
    ----------
    engine
        From `open`, which is the way to make a database.
    """

    def __init__(self, engine: Engine) -> None:
        self.url: str = engine.url.render_as_string(hide_password=True)
        self.dialect: Literal["sqlite", "postgresql"] = "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        self._readers = engine
        self._writers = engine.execution_options(thalweg_write=True)

    @classmethod
    def open(cls, url: str, *, read_only: bool = False) -> Database:
        """Connect and migrate the schema; several processes may do so at once.

        Parameters
        ----------
        url
            ``sqlite:///path`` or ``postgresql://user:password@host/name``.
        read_only
            Every write fails; the database is neither created nor migrated.

        Raises
        ------
        InvalidInput
            Where the URL is not of these kinds.
        StoreUnavailable
            Where the database cannot be reached or written, or a newer Thalweg has migrated it.
        """
        database = cls(make_engine(url, read_only))
        try:
            with database.connect(write=not read_only) as connection:
                if read_only:
                    check(connection)
                else:
                    upgrade(connection)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def session(self, *, write: bool = False, lock: str | None = None) -> Iterator[Session]:
        """A session that rolls back unless committed.

        Parameters
        ----------
        write
            True for a session that will write: SQLite then waits for its write lock at the start, and does not fail later
            where another process has written in between.
        lock
            Name that `lock` takes first; the session then is one that writes.
        """
        engine = self._writers if write or lock else self._readers
        with self.translated(), Session(engine, expire_on_commit=False) as session:
            if lock:
                self.lock(session, lock)
            yield session

    @contextmanager
    def connect(self, *, write: bool = False) -> Iterator[Connection]:
        """A connection, under the same rules as a session."""
        with self.translated(), (self._writers if write else self._readers).connect() as connection:
            yield connection

    def writer_connection(self) -> Connection:
        """A connection that a thread keeps, see `store.writer`; the caller translates its errors and closes it."""
        return self._writers.connect()

    def lock(self, session: Session, name: str) -> None:
        """Serialize transactions that lock the same name: the next one waits until this one ends.

        On SQLite the write lock, which a write session holds, does so already.
        """
        if self.dialect == "postgresql":
            session.connection().execute(_ADVISORY_LOCK, {"name": f"thalweg.{name}"})

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate SQLAlchemy's errors into Thalweg's, with what to do next."""
        try:
            yield
        except IntegrityError:
            raise
        except (DataError, OverflowError) as error:
            raise InvalidInput(f"a value does not fit the database: {_cause(error)}") from error
        except SQLAlchemyError as error:
            if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
                raise  # a value of a wrong type: a mistake in Thalweg, not in the database
            raise StoreUnavailable(f"{self.url}: {_cause(error)}; {_advice(_cause(error))}") from error

    def close(self) -> None:
        """Close every pooled connection."""
        self._readers.dispose()


_ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtext(:name))")


def _cause(error: BaseException) -> str:
    """The driver's message, without SQLAlchemy's statement and parameters (which hold users' text)."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().split("\n")[0]


def _advice(cause: str) -> str:
    advice = {
        "readonly": "make the file and its folder writable for this user",
        "read-only": "connect to the primary, as a user who may write",
        "unable to open": f"the file is gone or may not be read: {RESTORE}",
        "full": "free some disk space",
        "No space left": "free some disk space",
        "locked": "another process keeps the database locked: end it, or use PostgreSQL",
        "malformed": "restore the file from a backup",
        "not a database": "restore the file from a backup",
        "no such table": "restart Thalweg, which makes its tables",
        "does not exist": "create the database, or restart Thalweg, which makes its tables",
        "authentication": "check user and password in THALWEG_DATABASE_URL",
        "denied": "grant this user the rights on the database",
    }
    found = next((what for sign, what in advice.items() if sign in cause), None)
    return found or "check that the database runs and that THALWEG_DATABASE_URL is right; nothing was acknowledged"
