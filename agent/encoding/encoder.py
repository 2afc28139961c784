"""From a conversation to a unit vector, by a text model of limited length.

The last user turn and all other turns are each cut into windows of the model's length; of more than `MAX_WINDOWS`, as many
are embedded, spread evenly from the first token to the last, and `Encoded.coverage` is the share of tokens embedded. A
part's vector is the mean of its windows weighted by length; the last user turn weighs `LAST_TURN_WEIGHT`.
`store.encoders` holds the text models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.encoding import features as text
from agent.types import Encoded, Turn

MAX_WINDOWS = 2
_BATCH = 8

Tokens = list[int]


class Encoder(Protocol):
    """Encodes conversations; embeddings are comparable only under the same ``fingerprint``."""

    fingerprint: str
    dimension: int

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """Encode each conversation; order is kept."""
        ...


class Backend(Protocol):
    """A text model: tokens in, one vector per window out."""

    fingerprint: str
    dimension: int
    window: int

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, uncut, without special tokens."""
        ...

    def embed(self, windows: Sequence[Tokens]) -> NDArray[np.float32]:
        """(len(windows), dimension) mean-pooled vectors, not normalised."""
        ...


class WindowedEncoder:
    """Encodes whole conversations with a ``backend`` of limited length.

    Equal inputs give equal vectors whatever they are batched with, up to float32 rounding.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.dimension = backend.dimension
        self.fingerprint = f"{backend.fingerprint}/w{backend.window}x{MAX_WINDOWS}/f{len(text.FEATURES)}"

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """Encode each conversation; order is kept."""
        split = [text.split_turns(turns) for turns in conversations]
        tokens = self._backend.tokenize([without_surrogates(part) for pair in split for part in pair])
        windows: list[Tokens] = []
        weights: list[float] = []
        owners: list[int] = []
        lengths = np.zeros(len(split), np.int64)
        embedded = np.zeros(len(split), np.int64)
        for i in range(len(split)):
            last, before = tokens[2 * i], tokens[2 * i + 1]
            last_weight = text.LAST_TURN_WEIGHT if before else 1.0
            for ids, weight in ((last or [0], last_weight), (before, 1.0 - last_weight)):
                spread = spread_windows(ids, self._backend.window)
                kept = sum(map(len, spread))
                windows += spread
                weights += [weight * len(w) / kept for w in spread]
                owners += [i] * len(spread)
                lengths[i] += len(ids)
                embedded[i] += kept
        vectors = self._embed(windows)  # (windows, d)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        pooled = np.zeros((len(split), self.dimension), np.float32)
        np.add.at(pooled, owners, vectors * np.asarray(weights, np.float32)[:, None])
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return [
            Encoded(pooled[i], text.features(turns), int(lengths[i]), float(embedded[i] / lengths[i]))
            for i, turns in enumerate(conversations)
        ]

    def _embed(self, windows: list[Tokens]) -> NDArray[np.float32]:
        """Vectors of windows, (windows, d), in batches of similar length to save padding."""
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        out = np.empty((len(windows), self.dimension), np.float32)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            out[batch] = self._backend.embed([windows[i] for i in batch])
        return out


def without_surrogates(written: str) -> str:
    """``written`` with lone surrogates, which tokenizers refuse, as question marks."""
    return written.encode("utf-8", "replace").decode("utf-8")


def spread_windows(ids: Tokens, size: int) -> list[Tokens]:
    """At most `MAX_WINDOWS` windows of at most ``size`` of the ``ids``, spread evenly, the first and last included."""
    count = -(-len(ids) // size)
    if count <= 1:
        return [ids] if ids else []
    width = -(-len(ids) // count)
    windows = [ids[i : i + width] for i in range(0, len(ids), width)]
    if len(windows) <= MAX_WINDOWS:
        return windows
    return [windows[i] for i in np.linspace(0, len(windows) - 1, MAX_WINDOWS).round().astype(int)]
