"""What the jobs room reads from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from agent.evaluation.refresh_rule import RefreshRuleConfig
from store.encoders.backends import BUNDLED
from store.settings import AbsolutePath, StoreSettings


class JobSettings(StoreSettings):
    """Settings of the jobs.

    Parameters
    ----------
    encoder
        The bundled encoder, or a sentence-transformers name or folder.
    encoder_threads
        Threads of one encoding call; keep at 1 where a server runs beside.
    pool
        The pool file; None for the packaged one.
    data
        Folder of benchmark data.
    refresh_interval_s
        A refresh at least this often; 0 switches the timetable's refreshes off.
    refresh_min_feedback
        So many new feedback rows always cause an early refresh; fewer do where the champion was trained on few, a model
        has changed or outliers form clusters, see `refresh_reason`. 0: no early refresh.
    refresh_cooldown_s
        No early refresh sooner than this after the last one ended.
    seed
        Of everything random in a job.
    """

    encoder: str = BUNDLED
    encoder_threads: int = Field(
        default_factory=lambda: min(2, os.cpu_count() or 1), ge=1, le=256, description="a whole number from 1 to 256"
    )
    pool: AbsolutePath | None = None
    data: AbsolutePath = Path("../shared/data")
    refresh_interval_s: float = Field(default=6 * 3600.0, ge=0, description="a number of at least 0")
    refresh_min_feedback: int = Field(
        default=RefreshRuleConfig().most, ge=0, description="a whole number of at least 0"
    )
    refresh_cooldown_s: float = Field(default=60.0, ge=0, description="a number of at least 0")
    seed: int = Field(default=0, ge=0, description="a whole number of at least 0")
