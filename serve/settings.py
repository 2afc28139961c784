"""What the serve room reads from the environment, once, in the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import store
from agent.choice.limiter import ExplorationBudget
from agent.errors import InvalidInput
from store.encoders.onnx import BUNDLED
from store.settings import StoreSettings

PACKAGED_POOL = Path(str(store.__file__)).parent / "data" / "pool.yaml"


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of one serving replica.

    Parameters
    ----------
    store
        Where everything is kept.
    api_key
        `THALWEG_API_KEY`: the bootstrap admin key; None to have one made at first start and kept in the home.
    pool
        `THALWEG_POOL`: the pool file; the packaged one where it is not set.
    encoder
        `THALWEG_ENCODER`: the bundled encoder, or a sentence-transformers name or folder.
    max_body
        `THALWEG_MAX_BODY`: longest request body, in bytes.
    upstream_timeout_s
        `THALWEG_UPSTREAM_TIMEOUT_S`: longest wait for an upstream's next byte.
    connect_timeout_s
        `THALWEG_CONNECT_TIMEOUT_S`: longest wait for a connection to an upstream.
    explore
        `THALWEG_EXPLORE_SHARE`: share of each key's requests that may be explored in the long run, 0 to 1;
        `THALWEG_EXPLORE_BURST`: how many may be saved up, for a pool that is still cold.
    """

    store: StoreSettings
    api_key: str | None = field(default=None, repr=False)
    pool: Path = PACKAGED_POOL
    encoder: str = BUNDLED
    max_body: int = 10_000_000
    upstream_timeout_s: float = 120.0
    connect_timeout_s: float = 10.0
    explore: ExplorationBudget = ExplorationBudget()

    @property
    def cache(self) -> Path:
        """What can be made again: the encoder's graph, the local model's unpacked weights."""
        return self.store.home / "cache"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ServeSettings:
        """Read the settings; raises `InvalidInput` that names the variable at fault."""
        pool = env.get("THALWEG_POOL")
        return cls(
            store=StoreSettings.from_env(env),
            api_key=_key(env),
            pool=Path(pool).expanduser().absolute() if pool else PACKAGED_POOL,
            encoder=env.get("THALWEG_ENCODER") or BUNDLED,
            max_body=int(_positive(env, "THALWEG_MAX_BODY", 10_000_000)),
            upstream_timeout_s=_positive(env, "THALWEG_UPSTREAM_TIMEOUT_S", 120.0),
            connect_timeout_s=_positive(env, "THALWEG_CONNECT_TIMEOUT_S", 10.0),
            explore=_explore(env),
        )


def _key(env: Mapping[str, str]) -> str | None:
    key = env.get("THALWEG_API_KEY")
    if key and (len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key):
        raise InvalidInput("THALWEG_API_KEY: give at least 8 ASCII characters without spaces", param="THALWEG_API_KEY")
    return key or None


def _explore(env: Mapping[str, str]) -> ExplorationBudget:
    usual = ExplorationBudget()
    text = env.get("THALWEG_EXPLORE_SHARE") or str(usual.share)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"THALWEG_EXPLORE_SHARE={text!r}: give a number from 0 to 1", param="THALWEG_EXPLORE_SHARE")
    return ExplorationBudget(share, _positive(env, "THALWEG_EXPLORE_BURST", usual.burst))


def _positive(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise InvalidInput(f"{name}={text!r}: give a number above 0", param=name)
    return value
