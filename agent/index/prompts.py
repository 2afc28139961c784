"""What the router remembers of single prompts: an HNSW index over their embeddings, with the scores seen on each.

Memory is bounded: when full, the task with the most remembered prompts gives one up, so that a flood of one task pushes
out none of a rare one. What a task keeps is a reservoir, a uniform sample of its prompts as algorithm R draws it (Vitter
1985), drawn here by hashes of prompts as random keys, the lowest kept (bottom-k, Cohen and Kaplan 2007): a sample so drawn
stays uniform as its size changes, a prompt scored often is drawn once, and there is no random state to replicate.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.index.hnsw import build_index, nearest
from agent.types import Evidence, Vector


class PromptIndex:
    """Remembered prompts and their scores, one slot a prompt.

    Parameters
    ----------
    ids, embeddings, scores, tasks
        What a snapshot remembers: n prompt ids, (n, d) unit vectors, (n, m) scores with NaN where unseen, n task ids.
    capacity
        Most prompts remembered at a time. Each task may keep its share, ``capacity`` by tasks, and what others leave.

    Examples
    --------
    >>> memory = PromptIndex(("a",), np.eye(2, dtype=np.float32)[:1], np.array([[1.0]]), (0,), capacity=2)
    >>> memory.learn_one("b", np.eye(2, dtype=np.float32)[1], 7, 0, 0.5)
    >>> labels, similarity = memory.search(np.eye(2, dtype=np.float32)[1], 1)
    >>> memory.ids[labels[0]]
    'b'
    """

    def __init__(
        self,
        ids: tuple[str, ...],
        embeddings: NDArray[np.float32],
        scores: NDArray[np.float64],
        tasks: Sequence[int],
        capacity: int,
    ) -> None:
        capacity = max(capacity, len(ids), 1)
        self.ids = list(ids)
        self.scores = np.full((capacity, scores.shape[1]), np.nan)  # (capacity, models)
        self.scores[: len(ids)] = scores
        self._slots = {prompt: slot for slot, prompt in enumerate(ids)}
        self._capacity = capacity
        self._sums: dict[int, dict[int, tuple[float, float]]] = {}  # slot -> model -> total, count
        self._reservoirs: dict[int, list[tuple[int, int]]] = {}  # task -> heap of (-key, slot): what it gives up first
        for slot, (prompt, task) in enumerate(zip(ids, tasks, strict=True)):
            self._reservoirs.setdefault(task, []).append((-_key(prompt), slot))
        for kept in self._reservoirs.values():
            heapq.heapify(kept)
        self._index = build_index(embeddings, capacity)

    def __len__(self) -> int:
        return len(self._slots)

    def search(self, embedding: Vector, k: int) -> tuple[NDArray[np.int64], Vector]:
        """Slots and similarities of the ``k`` nearest, nearest first."""
        labels, similarity = nearest(self._index, embedding[None], k)
        return labels[0], similarity[0]

    def digest(self) -> str:
        """A hash of what is remembered; the index follows from it and its order."""
        digest = hashlib.sha256(repr((self.ids, self._sums, self._reservoirs)).encode())
        digest.update(self.scores.tobytes())
        return digest.hexdigest()

    def learn_one(
        self, prompt: str, embedding: Vector, task: int, model: int, score: float, weight: float = 1.0
    ) -> None:
        """Take in that ``model`` (column) scored ``score`` on ``prompt``; several scores of one pair are averaged.

        A prompt is remembered at once as long as there is room, and later as the reservoir of its ``task`` has it.
        """
        slot = self._slots.get(prompt)
        if slot is None and weight > 0.0:
            slot = self._admit(prompt, embedding, task)
        if slot is None:
            return
        sums = self._sums.setdefault(slot, {})
        total, count = sums.get(model, (0.0, 0.0))
        if count == 0.0 and not np.isnan(self.scores[slot, model]):
            total, count = float(self.scores[slot, model]), 1.0
        if weight < 0.0 and count <= 0.0:
            return  # what is taken back was forgotten, or never remembered
        total, count = total + weight * score, count + weight
        sums[model] = (total, count)
        self.scores[slot, model] = np.clip(total / count, 0.0, 1.0) if count > 1e-9 else np.nan

    def evidence(self, slots: NDArray[np.int64], similarity: Vector, models: tuple[str, ...]) -> tuple[Evidence, ...]:
        """The remembered prompts of ``slots`` as people see them."""
        return tuple(Evidence(self.ids[s], float(c), self._seen(s, models)) for s, c in zip(slots, similarity))

    def _seen(self, slot: int, models: tuple[str, ...]) -> Mapping[str, float]:
        row = self.scores[slot]
        return {models[m]: float(row[m]) for m in np.flatnonzero(row == row)}  # NaN, unseen, equals nothing

    def _admit(self, prompt: str, embedding: Vector, task: int) -> int | None:
        """The slot of a prompt that is new; None where its task has the most prompts and it is not of the sample."""
        key, kept = _key(prompt), self._reservoirs.setdefault(task, [])
        if len(self._slots) < self._capacity:
            slot = len(self._slots)
            self.ids.append(prompt)
        else:
            # the newcomer counts; where others have as many, its own task gives, or the two would push each other out
            giver = max(self._reservoirs, key=lambda t: (len(self._reservoirs[t]) + (t == task), t == task, t))
            if giver == task and (not kept or key > -kept[0][0]):
                return None
            slot = heapq.heappop(self._reservoirs[giver])[1]
            del self._slots[self.ids[slot]]
            self._sums.pop(slot, None)
            self.ids[slot] = prompt
            self.scores[slot] = np.nan
        heapq.heappush(kept, (-key, slot))
        self._slots[prompt] = slot
        self._index.add_items(embedding[None], np.array([slot]))  # an existing label is overwritten
        return slot


def _key(prompt: str) -> int:
    """As good as drawn at random, and the same on every replica."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "big")
