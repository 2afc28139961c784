"""A claimed run is closed as done or failed, however its worker ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import InvalidInput
from agent.types import ModelCard
from jobs.context import JobContext
from jobs.refresh.seed import ensure_champion
from jobs.schedule.worker import Heartbeat, RunLost, run_job
from jobs.settings import JobSettings
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from tests.jobs.made import WordEncoder, until

pytestmark = pytest.mark.usefixtures("few_seed_prompts")

ROOT = Path(__file__).parents[3]


def test_a_worker_killed_mid_run_leaves_the_champion_and_a_failed_run(
    database: Database, database_url: str, settings: JobSettings
) -> None:
    champion = ensure_champion(database, CachedEncoder(WordEncoder(), settings.cache), [ModelCard("a"), ModelCard("b")])
    runs = JobRuns(database)
    run_id = runs.request("refresh", {}, "test")
    command = [sys.executable, "-m", "tests.jobs.child", database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == str(run_id)
        beat = runs.get(run_id).heartbeat_at
        until(lambda: runs.get(run_id).heartbeat_at != beat)
        child.kill()
    assert runs.get(run_id).state == "running", "nobody has noticed yet"
    time.sleep(0.3)
    assert runs.reap(0.2) == [run_id]
    assert (runs.get(run_id).state, runs.get(run_id).reason) == ("failed", "worker died")
    snapshots = SnapshotStore(database)
    assert snapshots.champion_version() == champion.version
    assert snapshots.load(champion.version).models == ("a", "b")


@pytest.mark.usefixtures("word_encoder")
def test_run_job_closes_the_run_and_raises_what_went_wrong(home_database: Database, settings: JobSettings) -> None:
    runs = JobRuns(home_database)
    unknown = runs.request("paint", {}, "test")
    run = runs.claim(["paint"], "test")
    assert run is not None
    with pytest.raises(InvalidInput, match="no job 'paint'"):
        run_job(run, settings)
    assert runs.get(unknown).state == "failed"
    assert "no job 'paint'" in str(runs.get(unknown).reason)

    with JobContext(settings) as ctx:
        ctx.sync_pool()
    runs.request("refresh", {"seed": 3}, "test")
    run = runs.claim(["refresh"], "test")
    assert run is not None
    run_job(run, settings)
    done = runs.get(run.id)
    assert done.state == "done"
    assert done.result is not None
    assert done.result["version"] == SnapshotStore(home_database).champion_version()


def test_a_run_that_was_closed_as_dead_publishes_nothing(home_database: Database) -> None:
    runs = JobRuns(home_database)
    runs.request("refresh", {}, "test")
    run = runs.claim(["refresh"], "test")
    assert run is not None
    with Heartbeat(runs, run.id, period_s=0.05) as heartbeat:
        progress = heartbeat.checked(None)
        progress("heads", 0.5)
        runs.fail(run.id, "worker died")

        def lost() -> bool:
            try:
                progress("heads", 0.6)
            except RunLost:
                return True
            return False

        until(lost)


@pytest.mark.usefixtures("word_encoder")
def test_a_run_that_judges_says_what_came_of_it(home_database: Database, settings: JobSettings) -> None:
    runs = JobRuns(home_database)
    judging = runs.request("judge", {}, "test")
    run = runs.claim(["judge"], "test")
    assert run is not None
    run_job(run, settings)
    done = runs.get(judging)
    assert done.state == "done" and done.result is not None and "THALWEG_JUDGE_DAILY_USD" in done.result["reason"]
