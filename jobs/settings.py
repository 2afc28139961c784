"""What the jobs room reads from the environment, once, in the composition root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import InvalidInput
from agent.evaluation.refresh_rule import RefreshRuleConfig
from store.encoders.onnx import BUNDLED
from store.settings import StoreSettings


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Settings of the jobs.

    Parameters
    ----------
    store
        Where everything is kept.
    encoder
        `THALWEG_ENCODER`: the bundled encoder, or a sentence-transformers name or folder.
    encoder_threads
        `THALWEG_ENCODER_THREADS`: threads of one encoding call; 1 where a server runs beside.
    pool
        `THALWEG_POOL`: the pool file; None for the packaged one.
    data
        `THALWEG_DATA`: folder of benchmark data.
    refresh_interval_s
        `THALWEG_REFRESH_INTERVAL_S`: a refresh at least this often; 0 switches the timetable's refreshes off.
    refresh_min_feedback
        `THALWEG_REFRESH_MIN_FEEDBACK`: so many new feedback rows always call an early refresh; fewer do where the
        champion knows little, a model has changed or strange prompts gather, see `refresh_reason`. 0: none.
    refresh_cooldown_s
        `THALWEG_REFRESH_COOLDOWN_S`: no early refresh sooner than this after the last one ended.
    seed
        `THALWEG_SEED`: of everything random in a job.
    """

    store: StoreSettings
    encoder: str = BUNDLED
    encoder_threads: int = 1
    pool: Path | None = None
    data: Path = Path("../shared/data")
    refresh_interval_s: float = 6 * 3600.0
    refresh_min_feedback: int = RefreshRuleConfig().most
    refresh_cooldown_s: float = 60.0
    seed: int = 0

    @property
    def cache(self) -> Path:
        """What can be made again: the encoder's graph, embeddings of `evaluate`."""
        return self.store.home / "cache"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> JobSettings:
        """Read the settings; raises `InvalidInput` that names the variable at fault."""
        pool = env.get("THALWEG_POOL")
        return cls(
            store=StoreSettings.from_env(env),
            encoder=env.get("THALWEG_ENCODER") or BUNDLED,
            encoder_threads=int(
                _number(env, "THALWEG_ENCODER_THREADS", min(2, os.cpu_count() or 1), least=1, most=256)
            ),
            pool=Path(pool) if pool else None,
            data=Path(env.get("THALWEG_DATA") or "../shared/data"),
            refresh_interval_s=_number(env, "THALWEG_REFRESH_INTERVAL_S", 6 * 3600.0),
            refresh_min_feedback=int(_number(env, "THALWEG_REFRESH_MIN_FEEDBACK", RefreshRuleConfig().most)),
            refresh_cooldown_s=_number(env, "THALWEG_REFRESH_COOLDOWN_S", 60.0),
            seed=int(_number(env, "THALWEG_SEED", 0)),
        )


def _number(
    env: Mapping[str, str], name: str, default: float, *, least: float = 0.0, most: float = float("inf")
) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        limit = f"of at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise InvalidInput(f"{name}={text!r}: give a number {limit}", param=name)
    return value
