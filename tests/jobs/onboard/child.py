"""A worker of `onboard` in another process, see `tests.store.child`."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

from jobs.context import JobContext
from jobs.schedule.worker import run_job
from jobs.settings import JobSettings
from store.runs import JobRuns
from tests.jobs.made import WordEncoder


def work(line: Connection, env: dict[str, str], changes: dict[str, Any]) -> None:
    """Claim the queued run and do it; ``changes`` are settings."""
    settings = JobSettings.from_env(env).model_copy(update=changes)
    with patch("jobs.context.load_encoder", lambda *_: WordEncoder()):
        with JobContext(settings) as ctx:
            claimed = JobRuns(ctx.database).claim(["onboard"], "child")
        assert claimed is not None
        line.send("claimed")
        run_job(claimed, settings)
