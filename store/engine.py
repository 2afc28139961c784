"""SQLAlchemy engines for SQLite and PostgreSQL that lose no committed transaction.

SQLite runs in WAL mode with ``synchronous=FULL`` and explicit transactions. A deleted or replaced database file, which an
open connection would go on writing to, is detected.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
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
