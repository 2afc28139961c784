"""A worker that claims a refresh, prints the run's id, and works until it is killed: ``python child.py DATABASE_URL``."""

from __future__ import annotations

import sys
import time

from jobs.schedule.worker import Heartbeat
from store.database import Database
from store.runs import JobRuns


def main() -> None:
    """Claim a refresh and keep its heartbeat for a minute."""
    runs = JobRuns(Database.open(sys.argv[1]))
    run = runs.claim(["refresh"], "child")
    assert run is not None, "a queued refresh is wanted"
    with Heartbeat(runs, run.id, period_s=0.1):
        print(run.id, flush=True)
        time.sleep(60)


if __name__ == "__main__":
    main()
