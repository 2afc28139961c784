"""A home of its own for each test, and an encoder that costs nothing."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch with more threads crawls where other processes are busy

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import JobSettings
from store.database import Database
from tests.jobs.made import WordEncoder


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


@pytest.fixture
def world(settings: JobSettings) -> Iterator[Database]:
    """The home's database."""
    database = Database.open(settings.database_url)
    yield database
    database.close()
