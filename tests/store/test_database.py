"""Opening, migrating, and what happens when the database is not there or may not be written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from agent.errors import InvalidInput, StoreUnavailable
from store.database import Database, config
from store.decisions import DecisionLog
from store.feedback import FeedbackEvent, FeedbackLog
from store.pool.file import PoolFile
from store.pool.models import ModelPool
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from store.tables import Base
from store.writer import GroupCommitter
from tests.store.build import POOL, a_record, a_snapshot
from tests.store.child import Child, migrate, start_together


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_make_the_same_checks_and_partial_indexes(empty_sqlite_url: str, tmp_path: Path) -> None:
    def schema(url: str) -> dict[str, list[str]]:
        with create_engine(url).connect() as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            # A column that was added later stands behind the constraints, on their line.
            parts = {
                name: [part.strip(" \t)") for part in re.split("[,\n]", sql.replace('"', ""))] for name, sql in rows
            }
            return {name: sorted(filter(None, found)) for name, found in parts.items()}

    Database.open(empty_sqlite_url).close()
    direct = create_engine(f"sqlite:///{tmp_path}/direct.db")
    Base.metadata.create_all(direct)
    migrated = schema(empty_sqlite_url)
    del migrated["alembic_version"]
    assert migrated == schema(str(direct.url))


def test_migrations_go_back(database: Database) -> None:
    with database.connect(write=True) as connection:
        command.downgrade(config(connection), "base")
        connection.commit()
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_processes_that_open_at_once_all_succeed(empty_database_url: str) -> None:
    children = [Child(migrate, empty_database_url) for _ in range(4)]
    start_together(children)
    for child in children:
        child.join()


def test_a_newer_schema_is_left_alone(database: Database, database_url: str) -> None:
    with database.connect(write=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
        connection.commit()
    for read_only in (False, True):
        with pytest.raises(StoreUnavailable, match="'ffff'"):
            Database.open(database_url, read_only=read_only)


def test_a_session_rolls_back_unless_committed(database: Database) -> None:
    runs = JobRuns(database)
    with database.session(write=True) as session:
        session.execute(text("DELETE FROM job_runs"))
        session.execute(
            text(
                "INSERT INTO job_runs (id, job, params, state, requested_by, requested_at) "
                "VALUES (1, 'j', '{}', 'queued', '', '2026-01-01 00:00:00')"
            )
        )
    assert runs.list() == []


def test_read_only_reads_and_refuses_to_write(database: Database, database_url: str) -> None:
    JobRuns(database).request("refresh", {}, "me")
    other = Database.open(database_url, read_only=True)
    assert [run.job for run in JobRuns(other).list()] == ["refresh"]
    writer = GroupCommitter(other)
    attempts: list[Callable[[], object]] = [
        lambda: JobRuns(other).request("probe", {}, "me"),
        lambda: SnapshotStore(other).publish(a_snapshot(), status="champion", report={}, created_by="me"),
        lambda: ModelPool(other).sync(PoolFile.load(POOL)),
        lambda: DecisionLog(other, writer).append(a_record("d")).result(),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable, match="read-?only"):
            attempt()
    writer.close()
    other.close()


def test_read_only_makes_no_database(empty_sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        Database.open(empty_sqlite_url, read_only=True)
    assert list(tmp_path.rglob("*.db")) == []


def test_a_deleted_file_acknowledges_nothing_and_recovers_when_it_is_back(sqlite_url: str, tmp_path: Path) -> None:
    database = Database.open(sqlite_url)
    writer = GroupCommitter(database)
    log = DecisionLog(database, writer)
    log.append(a_record("before")).result()
    path = tmp_path / "home" / "thalweg.db"
    away = tmp_path / "away.db"
    os.rename(path, away)
    with pytest.raises(StoreUnavailable, match="put it back"):
        log.append(a_record("lost")).result()
    with pytest.raises(StoreUnavailable):
        log.get("before")
    with pytest.raises(StoreUnavailable):
        JobRuns(database).request("refresh", {}, "me")
    assert not path.exists()
    os.rename(away, path)
    log.append(a_record("after")).result()
    assert log.get("before") is not None and log.get("after") is not None and log.get("lost") is None
    writer.close()
    database.close()


def test_a_dropped_database_acknowledges_nothing(postgres_url: str, postgres_admin: Callable[[str], None]) -> None:
    database = Database.open(postgres_url)
    writer = GroupCommitter(database)
    log, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    log.append(a_record("d")).result()
    postgres_admin(f"DROP DATABASE {_name(postgres_url)} WITH (FORCE)")
    try:
        with pytest.raises(StoreUnavailable, match="does not exist"):
            log.append(a_record("lost")).result()
        with pytest.raises(StoreUnavailable):
            feedback.append([FeedbackEvent("d", 1.0, "user")]).result()
        with pytest.raises(StoreUnavailable):
            feedback.tail(0)
    finally:
        writer.close()
        database.close()


def test_lost_connections_are_made_anew(postgres_url: str, postgres_admin: Callable[[str], None]) -> None:
    database = Database.open(postgres_url)
    writer = GroupCommitter(database)
    log = DecisionLog(database, writer)
    log.append(a_record("one")).result()
    postgres_admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(postgres_url)}'")
    log.append(a_record("two")).result()
    assert log.get("two") is not None
    writer.close()
    database.close()


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Database.open("postgresql://user:s3cret@127.0.0.1:1/thalweg")
    assert "127.0.0.1" in str(caught.value) and "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/x", "sqlite://", "sqlite:///:memory:"])
def test_a_url_of_no_known_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Database.open(url)
    assert caught.value.param == "THALWEG_DATABASE_URL"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello" * 1000)
    with pytest.raises(StoreUnavailable, match="backup"):
        Database.open(f"sqlite:///{tmp_path}/x.db")


def test_a_number_too_large_is_the_callers_fault(database: Database) -> None:
    with pytest.raises(InvalidInput):
        SnapshotStore(database).load(10**30)


def _name(url: str) -> str:
    return url.split("/")[3].split("?")[0]
