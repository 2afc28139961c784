"""The database, SQLite or PostgreSQL: engines, opening, migration, sessions, and the translation of SQLAlchemy's errors.

On both, a commit that has returned survives `kill -9` (SQLite: WAL with ``synchronous=FULL`` and explicit transactions), and
a session that ends without a commit changes nothing. A deleted or replaced SQLite file, which an open connection would go
on writing to, is detected.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import orjson
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from agent.errors import InvalidInput, StoreUnavailable

BUSY_TIMEOUT_S = 10.0
"""Longest wait for the write lock (SQLite) and for a connection."""


RESTORE = "put it back, or restart Thalweg to begin a new one"
"""What to do about a database file that is gone."""


_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            f"{url!r} is no database URL; write sqlite:///path or postgresql://user:password@host/name",
            param="THALWEG_DATABASE_URL",
        ) from error
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise InvalidInput(
        f"{parsed.render_as_string()!r} is no database that Thalweg can use; write sqlite:///path "
        "or postgresql://user:password@host/name",
        param="THALWEG_DATABASE_URL",
    )


def make_engine(url: str, read_only: bool) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql://user:password@host/name``.

    Raises
    ------
    InvalidInput
        Where the URL is not of these kinds.
    StoreUnavailable
        Where SQLite's folder cannot be made.
    """
    parsed = _parse(url)
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value, option=_JSON).decode(),
        "json_deserializer": orjson.loads,
        "pool_timeout": BUSY_TIMEOUT_S,
        "max_overflow": 20,
    }
    if parsed.drivername == "sqlite":
        return _sqlite(parsed, read_only, options)
    arguments: dict[str, Any] = {"connect_timeout": int(BUSY_TIMEOUT_S), "application_name": "thalweg"}
    if read_only:
        arguments["options"] = "-c default_transaction_read_only=on"
    return create_engine(parsed, pool_pre_ping=True, connect_args=arguments, **options)


def _sqlite(url: URL, read_only: bool, options: dict[str, Any]) -> Engine:
    """An engine on a file; its commits fail where the file was moved or deleted meanwhile."""
    path = Path(str(url.database)).absolute()
    if not read_only:
        _touch(path)
    # mode=rw never creates a file: a deleted database is an error, not a new and empty one.
    uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)

    engine = create_engine(url, creator=connect, **options)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: ConnectionPoolEntry) -> None:
        if not read_only:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file; it comes before all else
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def reopen(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        if record.info["file"] != _identity(path):
            raise DisconnectionError("the database file was replaced")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("thalweg_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    @event.listens_for(engine, "commit")
    def still_there(connection: Connection) -> None:
        # Without this, a commit into a deleted file would succeed, and its data be lost.
        if connection.info["file"] != _identity(path):
            connection.invalidate()
            raise StoreUnavailable(f"sqlite:///{path}: the file was deleted or replaced; {RESTORE}")

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _touch(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        if not path.exists():
            raise StoreUnavailable(
                f"{path}: {error.strerror}; make the folder writable, or set THALWEG_HOME to one that is"
            ) from error


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


def config(connection: Connection) -> Config:
    """Alembic's configuration, bound to a connection; ``store/migrations/env.py`` reads it from there."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Migrate to the newest schema and commit; where several processes do so, one migrates and the others wait.

    ``connection`` must be a writer's: on SQLite the others wait for its write lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('thalweg.migrate'))"))
    current, newest = _current(connection), _newest(connection)
    if current not in _known(connection):
        raise StoreUnavailable(
            f"the database has schema {current!r}, which this Thalweg (schema {newest!r}) does not know; "
            "it was written by a newer Thalweg: run that one"
        )
    if current != newest:
        command.upgrade(config(connection), "head")
    connection.commit()


def check(connection: Connection) -> None:
    """Raise `StoreUnavailable` where the schema is not the newest."""
    current, newest = _current(connection), _newest(connection)
    if current != newest:
        raise StoreUnavailable(
            f"the database has schema {current!r}, this Thalweg wants {newest!r}; "
            "start it once with the right to write, which migrates the database"
        )


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newest(connection: Connection) -> str | None:
    return ScriptDirectory.from_config(config(connection)).get_current_head()


def _known(connection: Connection) -> set[str | None]:
    return {None, *(script.revision for script in ScriptDirectory.from_config(config(connection)).walk_revisions())}
