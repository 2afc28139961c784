"""Migrates a database's schema with Alembic whenever it is opened."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from agent.errors import StoreUnavailable


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
