"""Compact bytes for what a decision keeps beside its plain columns: its candidates, and other JSON, both compressed by zlib.

Candidates are columns of float64, which come back exactly (NaN where they are not finite), after a JSON head with what is
text. Rows of earlier versions hold plain JSON, which is read as well.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np
import orjson

from agent.types import Candidate, Part

_LEVEL = 6
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_NUMBERS = tuple(field.name for field in fields(Candidate) if field.name not in ("model", "parts", "excluded"))
_numbers = attrgetter(*_NUMBERS)
_LOGGED = ("quality", "stderr", "cost", "utility", "propensity", "shrinkage", "cost_penalty")


def pack_json(value: Any) -> bytes:
    """``value``, of dataclasses and what JSON has, as compressed JSON."""
    return zlib.compress(orjson.dumps(value, option=_JSON), _LEVEL)


def read_json(packed: bytes | str) -> Any:
    """What `pack_json` packed, or plain JSON."""
    return orjson.loads(_unzip(packed))


def decompressed(content: bytes) -> bytes:
    """``content`` without zlib's compression; as it is where it has none."""
    try:
        return zlib.decompress(content)
    except zlib.error:
        return content


def pack_candidates(candidates: Sequence[Candidate]) -> bytes:
    """Candidates as compressed columns: each of their numbers, then estimate and weight of each part."""
    kinds = list(dict.fromkeys(tuple(c.parts) for c in candidates))
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    head = {
        "models": [c.model for c in candidates],
        "excluded": [c.excluded for c in candidates],
        "numbers": _NUMBERS,
        "parts": names,
        "kinds": kinds,
        "kind": [kinds.index(tuple(c.parts)) for c in candidates],
    }
    width = {name: i for i, name in enumerate(names)}
    numbers = np.zeros((len(_NUMBERS) + 2 * len(names), len(candidates)), "<f8")
    numbers[: len(_NUMBERS)] = np.array([_numbers(c) for c in candidates], "<f8").reshape(-1, len(_NUMBERS)).T
    for j, c in enumerate(candidates):
        for name, part in c.parts.items():
            row = len(_NUMBERS) + 2 * width[name]
            numbers[row, j], numbers[row + 1, j] = part.estimate, part.weight
    numbers[~np.isfinite(numbers)] = np.nan
    return zlib.compress(orjson.dumps(head) + b"\n" + numbers.tobytes(), _LEVEL)


def read_candidates(packed: bytes | str) -> tuple[Candidate, ...]:
    """What `pack_candidates` packed, or plain JSON, in which null stands for NaN; raises whatever is wrong with it."""
    content = _unzip(packed)
    if content[:1] != b"{":
        return tuple(_from_json(row) for row in orjson.loads(content))
    head, _, body = content.partition(b"\n")
    of = orjson.loads(head)
    columns = np.frombuffer(body, "<f8").reshape(-1, len(of["models"])).tolist()
    numbers = list(zip(*columns[: len(of["numbers"])], strict=True))
    rest = columns[len(of["numbers"]) :]
    parts = {name: list(zip(*rest[2 * i : 2 * i + 2], strict=True)) for i, name in enumerate(of["parts"])}
    return tuple(
        Candidate(
            model=model,
            excluded=of["excluded"][i],
            parts={name: Part(*parts[name][i]) for name in of["kinds"][of["kind"][i]]},
            **dict(zip(of["numbers"], numbers[i], strict=True)),
        )
        for i, model in enumerate(of["models"])
    )


def _unzip(packed: bytes | str) -> bytes:
    content = packed.encode() if isinstance(packed, str) else packed
    return content if content[:1] in (b"[", b"{", b"n") else zlib.decompress(content)


def _from_json(row: Mapping[str, Any]) -> Candidate:
    parts = {name: Part(**_finite(part, part)) for name, part in row["parts"].items()}
    return Candidate(**{**row, **_finite(row, _LOGGED), "parts": parts})


def _finite(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    return {name: math.nan if row[name] is None else row[name] for name in names}
