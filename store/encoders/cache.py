"""Embeddings on disk, by the prompt's hash, so that each prompt is encoded once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.encoding import features as text
from agent.encoding.encoder import Encoder
from agent.errors import StoreUnavailable
from agent.types import Encoded, Turn

_SCHEMA = """create table if not exists embeddings (
    prompt blob primary key, embedding blob not null, tokens integer not null, coverage real not null
) without rowid"""
_CHUNK = 128


class CachedEncoder:
    """Encodes single prompts and keeps their embeddings, in one SQLite file per encoder.

    Parameters
    ----------
    encoder
        Encodes the prompts that are not in the file.
    folder
        Where the file is; it may be deleted at any time.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self._encoder = encoder
        self.fingerprint = encoder.fingerprint
        digest = hashlib.sha256(encoder.fingerprint.encode()).hexdigest()[:16]
        self._path = folder / f"embeddings-{digest}.sqlite"

    def encode(self, prompts: Sequence[str], progress: Callable[[float], None] | None = None) -> list[Encoded]:
        """Encode prompts of a single turn, in order; ``progress`` is called with the share done."""
        keys = {hashlib.sha256(p.encode("utf-8", "surrogatepass")).digest(): p for p in prompts}
        known: dict[bytes, Encoded] = {}
        with self._open() as file:
            for key, embedding, tokens, coverage in _select(file, list(keys)):
                vector = np.frombuffer(embedding, np.float32)
                known[key] = Encoded(vector, np.empty(0, np.float32), tokens, coverage)
            missing = [key for key in keys if key not in known]
            for start in range(0, len(missing), _CHUNK):
                chunk = missing[start : start + _CHUNK]
                encoded = self._encoder.encode([_turns(keys[key]) for key in chunk])
                known.update(zip(chunk, encoded, strict=True))
                file.executemany(
                    "insert or ignore into embeddings values (?, ?, ?, ?)",
                    [
                        (k, known[k].embedding.astype(np.float32).tobytes(), known[k].tokens, known[k].coverage)
                        for k in chunk
                    ],
                )
                file.commit()
                if progress is not None:
                    progress((start + len(chunk)) / len(missing))
        # Features cost little and change with the code: they are computed each time.
        by_prompt = {p: replace(known[k], features=text.features(_turns(p))) for k, p in keys.items()}
        return [by_prompt[p] for p in prompts]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(self._path, timeout=30.0)
            try:
                file.execute("pragma journal_mode = wal")
                file.execute(_SCHEMA)
                yield file
            finally:
                file.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"the embedding cache {self._path} cannot be used ({error}); delete it, or set THALWEG_HOME to a folder "
                "that can be written"
            ) from error


def _select(file: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[bytes, bytes, int, float]]:
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        marks = ",".join("?" * len(chunk))
        yield from file.execute(f"select * from embeddings where prompt in ({marks})", chunk)


def _turns(prompt: str) -> tuple[Turn, ...]:
    return (Turn("user", prompt),)
