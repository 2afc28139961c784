"""Size of the database on disk, and what is free of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import text

from store.database import Database

SLACK = 0.1
"""SQLite's free pages are given back to the disk beyond this share of the file; the rest is written to again."""

_PAGES_A_STEP = 500


def give_back(database: Database, pause: Callable[[float], object] = time.sleep) -> None:
    """Give SQLite's free pages beyond `SLACK` back to the disk, a step at a time; PostgreSQL does so by itself.

    ``pause`` is called with the seconds that each step took.
    """
    if database.dialect != "sqlite":
        return
    while True:
        started = time.perf_counter()
        with database.connect() as connection:
            free, pages, mode = (
                int(connection.execute(text(f"PRAGMA {name}")).scalar() or 0)
                for name in ("freelist_count", "page_count", "auto_vacuum")
            )
        if mode != 2 or free <= max(SLACK * pages, _PAGES_A_STEP):
            return
        with database.connect(write=True) as connection:
            cursor = connection.connection.cursor()
            cursor.execute(f"PRAGMA incremental_vacuum({_PAGES_A_STEP})")
            cursor.fetchall()  # a page is given back for each step of the statement
            cursor.close()
            connection.commit()
        pause(time.perf_counter() - started)


def store_bytes(database: Database) -> int:
    """Size of the database in bytes, without SQLite's write-ahead log."""
    query = (
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        if database.dialect == "sqlite"
        else "SELECT pg_database_size(current_database())"
    )
    with database.connect() as connection:
        return int(connection.execute(text(query)).scalar() or 0)
