"""Fixtures of the jobs' tests: an empty home with its settings and database, a cheap encoder, timetables that are stopped."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch with more threads crawls where other processes are busy

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from jobs.refresh import seed
from jobs.schedule.timetable import Timetable
from jobs.settings import JobSettings
from store.columns import Clock, utc_now
from store.database import Database
from store.runs import Run
from tests.jobs.made import WordEncoder
from tests.store.build import migrated_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty THALWEG_HOME; no other setting is set."""
    for name in [n for n in os.environ if n.startswith("THALWEG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> JobSettings:
    """The settings of that home."""
    return JobSettings.from_env(os.environ)


@pytest.fixture
def word_encoder(monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    """`WordEncoder`, also where a job opens the configured encoder."""
    encoder = WordEncoder()
    monkeypatch.setattr("jobs.context.load_encoder", lambda *_: encoder)
    return encoder


@pytest.fixture(scope="module")
def few_seed_prompts() -> Iterator[None]:
    """A twelfth of the seed prompts: most of the time of a refresh here is training on them."""
    few = seed.seed_prompts()[::12]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed, "seed_prompts", lambda: few)
        yield


@pytest.fixture
def home_database(settings: JobSettings) -> Iterator[Database]:
    """The home's database, which the command line opens too."""
    migrated_file(settings.home / "thalweg.db")
    database = Database.open(settings.database_url)
    yield database
    database.close()


class MakeTimetable(Protocol):
    """Makes a `Timetable`; ``changes`` are settings that differ from the defaults."""

    def __call__(
        self,
        database: Database,
        execute: Callable[[Run], None] = ...,
        *,
        start: bool = ...,
        clock: Clock = ...,
        **changes: Any,
    ) -> Timetable: ...


@pytest.fixture
def make_timetable(settings: JobSettings) -> Iterator[MakeTimetable]:
    """Makes timetables, started or not, and stops them at the end of the test; without retention, unless it is asked for."""
    made: list[Timetable] = []

    def make(
        database: Database,
        execute: Callable[[Run], None] = lambda run: None,
        *,
        start: bool = False,
        clock: Clock = utc_now,
        **changes: Any,
    ) -> Timetable:
        made.append(
            Timetable(database, settings.model_copy(update={"retention_schedule": "off"} | changes), execute, clock)
        )
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for timetable in made:
        timetable.stop()
