"""Schedules: when a job is to run, as people write it, and each job's last and next run. Triggers are APScheduler's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import select

from store.database import Database
from store.runs import JobRuns, State
from store.tables import SnapshotTable

OFF = "off"
HOW_TO_WRITE = (
    "an interval ('interval: 90s', or 15m, 6h, 1d), a crontab line in UTC ('0 3 * * *'; weekdays as mon..sun), or 'off'"
)

_INTERVAL = re.compile(r"interval:\s*(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_schedule(text: str) -> BaseTrigger | None:
    """The trigger of a schedule; None for ``off``.

    Raises
    ------
    ValueError
        Where it is neither of `HOW_TO_WRITE`. Numbers for weekdays are refused: crontab counts from Sunday, APScheduler
        from Monday.

    Examples
    --------
    >>> parse_schedule("interval: 6h")
    <IntervalTrigger (interval=datetime.timedelta(seconds=21600), timezone='UTC')>
    >>> parse_schedule("off")
    """
    text = text.strip()
    if text == OFF:
        return None
    if interval := _INTERVAL.fullmatch(text):
        number = float(interval[1])
        if not 0.0 < number < 1e6:
            raise ValueError(f"an interval of {interval[1]}{interval[2]}")
        return IntervalTrigger(**{_UNITS[interval[2]]: number}, timezone=UTC)
    if re.search(r"\d", text.split()[-1] if text else ""):
        raise ValueError("a weekday as a number")
    return CronTrigger.from_crontab(text, timezone=UTC)


def checked(text: str) -> str:
    """``text``, a schedule. Raises `ValueError` where it is none, or names a date that never comes, such as 31 February."""
    text = text.strip()
    if text != OFF and next_run(text, datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ValueError("a date that never comes")
    return text


def next_run(schedule: str, last: datetime) -> datetime | None:
    """The first time after ``last`` at which a job of this schedule is due; it may have passed. None for ``off``."""
    trigger = parse_schedule(schedule)
    found: datetime | None = None if trigger is None else trigger.get_next_fire_time(last, last)
    return found


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job, its schedule, and what else calls it, in words."""

    job: str
    schedule: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job as the timetable sees it; ``last_run`` and ``last_state`` are None before the first, ``next_run`` where the
    schedule is ``off``. A run is due where ``next_run`` has passed."""

    job: str
    schedule: str
    also: tuple[str, ...]
    last_run: datetime | None
    last_state: State | None
    next_run: datetime | None


def scheduled_jobs(database: Database, plans: Sequence[JobPlan], now: datetime) -> list[ScheduledJob]:
    """The jobs of ``plans`` with their last runs and the next by their schedules.

    The next run counts from the last one, whoever asked for it; before the first, from the first snapshot (``now`` where
    there is none). Both are in SQL, so a restart changes nothing.
    """
    runs, found = JobRuns(database), []
    with database.session() as session:
        begin = session.scalar(select(SnapshotTable.created_at).order_by(SnapshotTable.version).limit(1)) or now
    for plan in plans:
        last = runs.last(plan.job)
        asked = None if last is None else last.requested_at
        state = None if last is None else last.state
        due = next_run(plan.schedule, asked or begin)
        found.append(ScheduledJob(plan.job, plan.schedule, plan.also, asked, state, due))
    return found
